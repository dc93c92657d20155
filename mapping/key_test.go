package mapping

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestTuple_OneIntegerHasOneSpelling(t *testing.T) {
	t.Parallel()
	cases := []struct{ columnType, raw, want string }{
		{"int", `42`, "42"}, {"int", `"42"`, "42"}, {"int", `"0042"`, "42"}, {"int", `"-0"`, "0"}, {"int", `-0`, "0"}, {"int", `"000"`, "0"}, {"int", `"\u0034"`, "4"},
		{"tinyint", `-128`, "-128"}, {"tinyint unsigned", `255`, "255"}, {"mediumint", `8388607`, "8388607"}, {"mediumint unsigned", `16777215`, "16777215"},
		{"bigint", `9007199254740991`, "9007199254740991"}, {"bigint", `-9007199254740991`, "-9007199254740991"},
		{"bigint", `"9223372036854775807"`, "9223372036854775807"}, {"bigint", `"-9223372036854775808"`, "-9223372036854775808"},
		{"bigint unsigned", `"18446744073709551615"`, "18446744073709551615"},
	}
	for _, c := range cases {
		m := keyed(t, "x:{a}", c.columnType)
		pk, err := m.Tuple([]json.RawMessage{json.RawMessage(c.raw)})
		if err != nil || !slices.Equal(pk, []string{c.want}) {
			t.Errorf("%s %s = %q, %v; want %s", c.columnType, c.raw, pk, err, c.want)
		}
		if err := m.CheckTuple(pk); err != nil {
			t.Errorf("%q is not canonical: %v", pk, err)
		}
	}
}

func TestTuple_RefusesWhatTheServerWouldBend(t *testing.T) {
	t.Parallel()
	cases := []struct{ columnType, raw string }{
		{"int", `"1abc"`}, {"int", `""`}, {"int", `" 1"`}, {"int", `"+1"`}, {"int", `"1.0"`}, {"int", `1.0`}, {"int", `1e2`}, {"int", `"1e2"`}, {"int", `"0x10"`}, {"int", `01`}, {"int", `true`},
		{"int", `[1]`}, {"int", `"--1"`}, {"int", `"-"`}, {"int", ``}, {"int", `"1`}, {"int", `"` + strings.Repeat("0", keyPartBytesMax) + `"`}, {"int", `"١"`}, {"int", `"1_0"`},
		{"int", `2147483648`}, {"int", `-2147483649`}, {"int unsigned", `4294967296`}, {"int unsigned", `-1`}, {"tinyint", `128`}, {"mediumint", `8388608`}, {"mediumint", `-8388609`},
		{"bigint", `9007199254740992`}, {"bigint", `-9007199254740992`}, {"bigint", `"9223372036854775808"`}, {"bigint unsigned", `"18446744073709551616"`},
	}
	for _, c := range cases {
		pk, err := keyed(t, "x:{a}", c.columnType).Tuple([]json.RawMessage{json.RawMessage(c.raw)})
		if fault, ok := errors.AsType[*KeyError](err); !ok || fault.Column != "a" || fault.Reason == "" {
			t.Errorf("%s %s = %q, %v; want a KeyError of column a", c.columnType, c.raw, pk, err)
		}
	}
	pair := keyed(t, "x:{a}:{b}", "int", "int")
	for _, raw := range [][]json.RawMessage{nil, {json.RawMessage("1")}, {json.RawMessage("1"), json.RawMessage("2"), json.RawMessage("3")}} {
		if _, err := pair.Tuple(raw); err == nil {
			t.Errorf("%d parts are accepted for a key of two", len(raw))
		}
	}
}

func TestEncodeKey_IsReversibleAndUnique(t *testing.T) {
	t.Parallel()
	if got := EncodeKey([]string{"42", "-7"}); got != `["42","-7"]` {
		t.Errorf("EncodeKey = %s", got)
	}
	for _, other := range []string{"", "[]", "null", `["42", "-7"]`, `[42]`, `["4\u0032"]`, `["42"]x`, ` ["42"]`, `[null]`, `{"a":"b"}`, "[\"\xff\"]", `["\ud800"]`} {
		if pk, err := DecodeKey(other); err == nil {
			t.Errorf("DecodeKey(%s) = %q, want a refusal", other, pk)
		}
	}
}

// What is meant to be fast is: a reader that always gave up would pass every other test.
func TestDecodeKey_ReadsPlainKeysInPlace(t *testing.T) {
	t.Parallel()
	for _, s := range []string{`["42"]`, `["1","-2"]`, `[""]`, `["","a b"]`} {
		if plainKey(s) == nil {
			t.Errorf("%s is not read in place", s)
		}
	}
	if text, ok := plainText([]byte(`"42"`)); !ok || text != "42" {
		t.Errorf("a plain part is read as %q, %t", text, ok)
	}
}

func BenchmarkKey(b *testing.B) {
	key := EncodeKey([]string{"1234567"})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := DecodeKey(key); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		tuple := []string{"1234567"}
		for b.Loop() {
			_ = EncodeKey(tuple)
		}
	})
}

func FuzzDecodeKey(f *testing.F) {
	for _, s := range []string{`["42"]`, `["1","-2"]`, `["1", "-2"]`, `["é","a"]`, `["a",]`, `["a","]`, `["a"b"]`, `["","",""]`, `["a"`, `["a"],"]`, "[\"a\n\"]", `["`, `["]`, `["a\"b"]`, `["\u0000"]`, `[""]`, `[`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		pk, err := DecodeKey(s)
		if slow, slowErr := decodeKey(s); (err == nil) != (slowErr == nil) || !slices.Equal(pk, slow) {
			t.Errorf("%q decodes to %q (%v), by the standard decoder to %q (%v)", s, pk, err, slow, slowErr)
		}
		if err != nil {
			return
		}
		if again := EncodeKey(pk); again != s {
			t.Errorf("%q decodes to %q, which encodes to %q", s, pk, again)
		}
	})
}

func TestTuple_EachClassHasOneSpellingOfAValue(t *testing.T) {
	t.Parallel()
	const refused = "refused"
	for _, c := range []struct{ columnType, collation, fold, text, want string }{
		{"decimal(5,2)", "", "", "12.5", "12.50"}, {"decimal(5,2)", "", "", "012.500", "12.50"}, {"decimal(5,2)", "", "", "-0.00", "0.00"}, {"decimal(5,2)", "", "", "-0", "0.00"}, {"decimal(5,2)", "", "", "999.99", "999.99"},
		{"decimal(5,2)", "", "", "1000", refused}, {"decimal(5,2)", "", "", "1.005", refused}, {"decimal(5,2)", "", "", "1.", refused}, {"decimal(5,2)", "", "", ".5", refused}, {"decimal(5,2)", "", "", "1e1", refused},
		{"decimal(5,2) unsigned", "", "", "-1", refused}, {"decimal(5,2) unsigned", "", "", "-0", "0.00"}, {"decimal(5,0)", "", "", "-7", "-7"}, {"decimal(2,2)", "", "", "0.5", "0.50"}, {"decimal(2,2)", "", "", "1", refused},
		{"varchar(20)", "utf8mb4_bin", "", "Abc  ", "Abc"}, {"varchar(20)", "utf8mb4_nopad_bin", "", "Abc  ", "Abc  "}, {"varchar(20)", "utf8mb4_0900_bin", "", "Abc ", "Abc "}, {"char(20)", "utf8mb4_nopad_bin", "", "Abc ", "Abc"},
		{"varchar(20)", "utf8mb4_bin", "", " a", " a"}, {"varchar(20)", "utf8mb4_bin", "", "a\x00", refused}, {"varchar(20)", "utf8mb4_bin", "", "a\t", refused}, {"varchar(20)", "utf8mb4_bin", "", "🚲'\"\\`--", "🚲'\"\\`--"},
		{"varchar(20)", "utf8mb3_bin", "", "🚲", refused}, {"varchar(20)", "utf8mb3_bin", "", "語", "語"}, {"varchar(20)", "latin1_bin", "", "é€", "é€"}, {"varchar(20)", "latin1_bin", "", "語", refused}, {"varchar(20)", "ascii_bin", "", "é", refused},
		{"varchar(20)", "utf8mb4_general_ci", FoldLower, "ABC  ", "abc"}, {"varchar(20)", "utf8mb4_0900_ai_ci", FoldLower, "ÉΩЖ ", "éωж "}, {"varchar(20)", "utf8mb4_unicode_ci", FoldLower, "\u212a", refused}, // the Kelvin sign
		{"varchar(20)", "utf8mb4_unicode_ci", FoldLower, "İ", refused}, {"varchar(20)", "utf8mb4_unicode_ci", FoldLower, "\u1c90", refused}, {"varchar(20)", "utf8mb4_unicode_ci", FoldLower, "straße語", "straße語"},
		{"binary(2)", "", "", "00FF", "00ff"}, {"binary(2)", "", "", "00", refused}, {"binary(2)", "", "", "0000ff", refused}, {"varbinary(2)", "", "", "", ""}, {"varbinary(2)", "", "", "0", refused}, {"varbinary(2)", "", "", "zz", refused},
		{"varbinary(2)", "", "", "001122", refused}, {"date", "", "", "2024-02-29", "2024-02-29"}, {"date", "", "", "2023-02-29", refused}, {"date", "", "", "0000-00-00", refused}, {"date", "", "", "2024-2-9", refused},
		{"date", "", "", "24-02-29", refused}, {"date", "", "", "2024-02-29 00:00:00", refused}, {"datetime", "", "", "2024-02-29 23:59:59", "2024-02-29 23:59:59"}, {"datetime", "", "", "2024-02-29 23:59:59.0", refused},
		{"datetime", "", "", "2024-02-29T23:59:59", refused}, {"datetime", "", "", "2024-02-29 24:00:00", refused}, {"datetime(3)", "", "", "2024-02-29 23:59:59.120", "2024-02-29 23:59:59.120"}, {"datetime(3)", "", "", "2024-02-29 23:59:59", refused},
		{"datetime(3)", "", "", "2024-02-29 23:59:59,120", refused}, {"datetime(3)", "", "", "2024-02-29 23:59:59.12", refused}, {"datetime", "", "", "2024-02-29 3:59:59", refused},
		{"uuid", "", "", "123E4567-E89B-12D3-A456-426655440000", "123e4567-e89b-12d3-a456-426655440000"}, {"uuid", "", "", "123e4567e89b12d3a456426655440000", "123e4567-e89b-12d3-a456-426655440000"}, {"uuid", "", "", "123e-4567e89b12d3a456426655440000", refused},
		{"inet4", "", "", "1.2.3.4", "1.2.3.4"}, {"inet4", "", "", "01.2.3.4", refused}, {"inet4", "", "", "::1", refused}, {"inet6", "", "", "2001:DB8:0:0::1", "2001:db8::1"}, {"inet6", "", "", "::ffff:1.2.3.4", "::ffff:1.2.3.4"},
		{"inet6", "", "", "1.2.3.4", refused}, {"inet6", "", "", "fe80::1%eth0", refused}, {"inet6", "", "", "::1.2.3.4", refused}, {"inet6", "", "", "::1", "::1"}, {"inet6", "", "", "::", "::"},
	} {
		spec := keyedSpec("x:{a}", c.columnType)
		spec.Fold = c.fold
		m, err := Compile(spec, 1, keyedColumns(c.collation, c.columnType))
		if err != nil {
			t.Errorf("%s %s: %v", c.columnType, c.collation, err)
			continue
		}
		tuple, err := m.Tuple([]json.RawMessage{appendString(nil, c.text)})
		fault, isFault := errors.AsType[*KeyError](err)
		switch {
		case c.want == refused && (!isFault || fault.Reason == ""):
			t.Errorf("%s %s %q = %q, %v; want a refusal", c.columnType, c.collation, c.text, tuple, err)
		case c.want != refused && (err != nil || tuple[0] != c.want || m.CheckTuple(tuple) != nil):
			t.Errorf("%s %s %q = %q, %v; want %q", c.columnType, c.collation, c.text, tuple, err, c.want)
		}
	}
}

func TestTuple_TakesNumbersOnlyWhereNoDigitCanBeLost(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		columnType, raw string
		ok              bool
	}{
		{"decimal(20,2)", "12.5", true}, {"decimal(20,2)", "-3", true}, {"decimal(20,2)", "1e3", false}, {"decimal(20,2)", "1234567890123.45", true}, {"decimal(20,2)", "12345678901234567.5", false},
		{"varchar(9)", "1", false}, {"date", "20240229", false}, {"varbinary(9)", "11", false}, {"varchar(9)", `"\ud800"`, false}, {"varchar(9)", "true", false}, {"varchar(9)", "[]", false}, {"varchar(9)", `"\u0041"`, true},
	} {
		if tuple, err := keyed(t, "x:{a}", c.columnType).Tuple([]json.RawMessage{json.RawMessage(c.raw)}); (err == nil) != c.ok {
			t.Errorf("%s %s = %q, %v", c.columnType, c.raw, tuple, err)
		}
	}
}

func TestTuple_NullNamesNoKey(t *testing.T) {
	t.Parallel()
	m := keyed(t, "x:{a}:{b}", "int", "varchar(9)")
	tuple, err := m.Tuple([]json.RawMessage{json.RawMessage("1"), json.RawMessage("null")})
	if tuple != nil || err != nil {
		t.Errorf("tuple = %q, %v; want none", tuple, err)
	}
	if tuple, err := m.Tuple([]json.RawMessage{json.RawMessage(`"x"`), json.RawMessage("null")}); err == nil {
		t.Errorf("a wrong part beside a null = %q", tuple)
	}
	if key := m.RowKey([]Cell{{Bytes: []byte("1")}, {Null: true}}); key != nil {
		t.Errorf("key of a row = %q", key)
	}
	if key := m.RowKey([]Cell{{Bytes: []byte("1")}, {Bytes: []byte("a\x00")}}); key != nil {
		t.Errorf("key of a row with a part that no event can name = %q", key)
	}
	if key := m.RowKey([]Cell{{Bytes: []byte("1")}, {Bytes: []byte("a ")}}); !slices.Equal(key, []string{"1", "a"}) {
		t.Errorf("key of a row = %q", key)
	}
}

func TestCompile_RefusesKeyColumnsThatDoNotTellRowsApart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		columnType, collation, fold string
		ok                          bool
	}{
		{"varchar(9)", "utf8mb4_general_ci", "", false}, {"varchar(9)", "utf8mb4_0900_as_cs", "", false}, {"varchar(9)", "utf8mb4_bin", FoldLower, false}, {"varchar(9)", "utf8mb4_0900_as_cs", FoldLower, false},
		{"varchar(9)", "utf8mb4_turkish_ci", FoldLower, false}, {"varchar(9)", "utf8mb4_tr_0900_ai_ci", FoldLower, false}, {"varchar(9)", "utf8mb4_uca1400_turkish_as_ci", FoldLower, false}, {"varchar(9)", "utf8mb4_uca1400_nopad_as_ci", FoldLower, true},
		{"varchar(9)", "utf8mb4_unicode_520_nopad_ci", FoldLower, true}, {"varchar(9)", "latin1_swedish_ci", FoldLower, true}, {"varchar(9)", "latin1_german1_ci", FoldLower, false}, {"varchar(9)", "gbk_bin", "", false}, {"varchar(9)", "", "", false},
		{"char(9)", "ascii_bin", "", true}, {"float", "", "", false}, {"double", "", "", false}, {"enum('a')", "utf8mb4_bin", "", false}, {"set('a')", "utf8mb4_bin", "", false}, {"timestamp", "", "", false}, {"time", "", "", false}, {"year(4)", "", "", false},
		{"bit(8)", "", "", false}, {"json", "", "", false}, {"text", "utf8mb4_bin", "", false}, {"blob", "", "", false}, {"point", "", "", false}, {"int(5) zerofill", "", "", false}, {"varbinary(300)", "", "", false}, {"binary(256)", "", "", false}, {"binary(255)", "", "", true},
	} {
		spec := keyedSpec("x:{a}", c.columnType)
		spec.Fold = c.fold
		_, err := Compile(spec, 1, keyedColumns(c.collation, c.columnType))
		if (err == nil) != c.ok {
			t.Errorf("%s %s fold %q: %v", c.columnType, c.collation, c.fold, err)
		}
	}
}

func FuzzTuple(f *testing.F) {
	for _, s := range []string{`42`, `"42"`, `"007"`, `-0`, `1e3`, `"18446744073709551615"`, `"ABC  "`, `"2024-02-29"`, `"12.50"`, `"00FF"`, `"::1"`, `"\u212a"`, `"É"`, `"2024-02-29 01:02:03.400"`} {
		f.Add(s)
	}
	var all []*Mapping
	for _, columnType := range []string{"bigint unsigned", "int", "decimal(20,2)", "varchar(255)", "char(9)", "binary(2)", "varbinary(200)", "date", "datetime(3)", "uuid", "inet6", "inet4"} {
		all = append(all, keyed(f, "x:{a}", columnType))
	}
	spec := keyedSpec("x:{a}", "varchar(255)")
	spec.Fold = FoldLower
	all = append(all, compile(f, spec, keyedColumns("utf8mb4_general_ci", "varchar(255)")))
	f.Fuzz(func(t *testing.T, s string) {
		for _, m := range all {
			tuple, err := m.Tuple([]json.RawMessage{json.RawMessage(s)})
			if err != nil || tuple == nil {
				continue
			}
			again, err := m.Tuple([]json.RawMessage{appendString(nil, tuple[0])})
			if err != nil || !slices.Equal(tuple, again) || m.CheckTuple(tuple) != nil {
				t.Errorf("%s is %q, then %q, %v", s, tuple, again, err)
			}
		}
	})
}
