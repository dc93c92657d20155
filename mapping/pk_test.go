package mapping

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestPK_OneRowHasOneSpelling(t *testing.T) {
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
		pk, err := m.PK([]json.RawMessage{json.RawMessage(c.raw)})
		if err != nil || !slices.Equal(pk, []string{c.want}) {
			t.Errorf("%s %s = %q, %v; want %s", c.columnType, c.raw, pk, err, c.want)
		}
		if err := m.CheckPK(pk); err != nil {
			t.Errorf("%q is not canonical: %v", pk, err)
		}
	}
}

func TestPK_RefusesWhatTheServerWouldBend(t *testing.T) {
	t.Parallel()
	cases := []struct{ columnType, raw string }{
		{"int", `"1abc"`}, {"int", `""`}, {"int", `" 1"`}, {"int", `"+1"`}, {"int", `"1.0"`}, {"int", `1.0`}, {"int", `1e2`}, {"int", `"1e2"`}, {"int", `"0x10"`}, {"int", `01`}, {"int", `null`}, {"int", `true`},
		{"int", `[1]`}, {"int", `"--1"`}, {"int", `"-"`}, {"int", ``}, {"int", `"1`}, {"int", `"` + strings.Repeat("0", pkPartBytesMax) + `"`}, {"int", `"١"`}, {"int", `"1_0"`},
		{"int", `2147483648`}, {"int", `-2147483649`}, {"int unsigned", `4294967296`}, {"int unsigned", `-1`}, {"tinyint", `128`}, {"mediumint", `8388608`}, {"mediumint", `-8388609`},
		{"bigint", `9007199254740992`}, {"bigint", `-9007199254740992`}, {"bigint", `"9223372036854775808"`}, {"bigint unsigned", `"18446744073709551616"`},
	}
	for _, c := range cases {
		pk, err := keyed(t, "x:{a}", c.columnType).PK([]json.RawMessage{json.RawMessage(c.raw)})
		if fault, ok := errors.AsType[*PKError](err); !ok || fault.Column != "a" || fault.Reason == "" {
			t.Errorf("%s %s = %q, %v; want a PKError of column a", c.columnType, c.raw, pk, err)
		}
	}
	pair := keyed(t, "x:{a}:{b}", "int", "int")
	for _, raw := range [][]json.RawMessage{nil, {json.RawMessage("1")}, {json.RawMessage("1"), json.RawMessage("2"), json.RawMessage("3")}} {
		if _, err := pair.PK(raw); err == nil {
			t.Errorf("%d parts are accepted for a key of two", len(raw))
		}
	}
}

func TestEncodePK_IsReversibleAndUnique(t *testing.T) {
	t.Parallel()
	if got := EncodePK([]string{"42", "-7"}); got != `["42","-7"]` {
		t.Errorf("EncodePK = %s", got)
	}
	for _, other := range []string{"", "[]", "null", `["42", "-7"]`, `[42]`, `["4\u0032"]`, `["42"]x`, ` ["42"]`, `[null]`, `{"a":"b"}`, "[\"\xff\"]", `["\ud800"]`} {
		if pk, err := DecodePK(other); err == nil {
			t.Errorf("DecodePK(%s) = %q, want a refusal", other, pk)
		}
	}
}

func FuzzDecodePK(f *testing.F) {
	for _, s := range []string{`["42"]`, `["1","-2"]`, `["a\"b"]`, `["\u0000"]`, `[""]`, `[`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		pk, err := DecodePK(s)
		if err != nil {
			return
		}
		if again := EncodePK(pk); again != s {
			t.Errorf("%q decodes to %q, which encodes to %q", s, pk, again)
		}
	})
}

func FuzzPK(f *testing.F) {
	for _, s := range []string{`42`, `"42"`, `"007"`, `-0`, `1e3`, `"18446744073709551615"`} {
		f.Add(s)
	}
	m := keyed(f, "x:{a}", "bigint unsigned")
	f.Fuzz(func(t *testing.T, s string) {
		pk, err := m.PK([]json.RawMessage{json.RawMessage(s)})
		if err != nil {
			return
		}
		again, err := m.PK([]json.RawMessage{json.RawMessage(`"` + pk[0] + `"`)})
		if err != nil || !slices.Equal(pk, again) || m.CheckPK(pk) != nil {
			t.Errorf("%s is %q, then %q, %v", s, pk, again, err)
		}
	})
}
