package mapping

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestTemplate_RefusesWhatWouldMoveOrShareAKey(t *testing.T) {
	t.Parallel()
	for _, template := range []string{
		"", "order", "order:{id}:{item}:{id}", "order:{id}{item}", "order:{id}:{item", "order:id}:{item}", "order:{id}:{item}:{", "order:{id}:{item}}",
		"order:{}:{id}:{item}", `order:\{x\}:{id}:{item}`, "order:{id}:{item}\x00", "order:{id}\n{item}", "order:{ID}:{item}", "\xff{id}:{item}", "{order}:{id}:{item}", "{{order}:{id}:{item}", "order:{{id}}",
	} {
		if _, err := parseTemplate(template, []string{"id", "item"}); err == nil {
			t.Errorf("%q is accepted", template)
		}
	}
	for template, want := range map[string]string{
		"{id}:{item}": "-1:-2", "cart:{item}/of/{id}": "cart:-2/of/-1", "é {id}-{item}!9": "é -1--2!9",
		"{{user:{id}}}:{item}": "{user:-1}:-2", "{id}}}{{{item}": "-1}{-2", "a}}{{b{id}:{item}{{}}": "a}{b-1:-2{}",
	} {
		parsed, err := parseTemplate(template, []string{"id", "item"})
		if err != nil {
			t.Errorf("%q: %v", template, err)
		} else if got := parsed.render([]string{"-1", "-2"}); got != want {
			t.Errorf("%q renders %q, want %q", template, got, want)
		}
	}
}

// Where a part's width varies, what follows must show its end.
func TestCompile_RefusesTextThatCouldBelongToThePartBeforeIt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		template, before string
		ok               bool
	}{
		{"{a}1{b}", "int", false}, {"{a}:{b}", "int", true}, {"{a}-{b}", "int", true}, {"{a}.{b}", "int", true},
		{"{a}.{b}", "decimal(10,2)", false}, {"{a}-{b}", "decimal(10,2)", true}, {"{a}9{b}", "decimal(10,2)", false},
		{"{a}f{b}", "varbinary(9)", false}, {"{a}g{b}", "varbinary(9)", true}, {"{a}f{b}", "binary(9)", true},
		{"{a}-{b}", "date", true}, {"{a}:{b}", "datetime(3)", true}, {"{a}-{b}", "uuid", true},
		{"{a}:{b}", "inet6", false}, {"{a}/{b}", "inet6", true}, {"{a}.{b}", "inet4", false}, {"{a}:{b}", "inet4", true}, {"{a}:{b}", "varchar(20)", true},
	} {
		_, err := Compile(keyedSpec(c.template, c.before, "int"), 1, keyedColumns("utf8mb4_bin", c.before, "int"))
		if ok := err == nil; ok != c.ok {
			t.Errorf("%s behind %s: %v", c.template, c.before, err)
		}
	}
}

func TestTemplate_TextThatWouldShareAKeyIsRefused(t *testing.T) {
	t.Parallel()
	tuple := func(m *Mapping, parts ...string) error {
		raw := make([]json.RawMessage, len(parts))
		for i, part := range parts {
			raw[i] = appendString(nil, part)
		}
		_, err := m.Tuple(raw)
		return err
	}
	colon, double, last := keyed(t, "x:{a}:{b}", "varchar(99)", "varchar(99)"), keyed(t, "x:{a}aa{b}", "varchar(99)", "varchar(99)"), keyed(t, "x:{b}:{a}", "varchar(99)", "int")
	for _, c := range []struct {
		m     *Mapping
		parts []string
		ok    bool
	}{
		{colon, []string{"u", "v"}, true}, {colon, []string{"u", "v:w"}, true}, {colon, []string{"u:v", "w"}, false}, {colon, []string{"u:", "w"}, false}, {colon, []string{"", ""}, true},
		{double, []string{"x", "ay"}, true}, {double, []string{"xa", "y"}, false}, {double, []string{"axa", "y"}, false}, {double, []string{"ax", "y"}, true},
		{last, []string{"a:b:c", "7"}, true},
	} {
		err := tuple(c.m, c.parts...)
		if _, refused := errors.AsType[*KeyError](err); refused == c.ok {
			t.Errorf("%s of %q: %v", c.m.Spec().Key, c.parts, err)
		}
	}
	free := keyed(t, "{a}", "varchar(255)")
	for text, ok := range map[string]bool{"qg:{x}": false, "qg:": false, "qg": true, "": false, "a}{b": true, strings.Repeat("x", 255): true, strings.Repeat("é", 255): true, strings.Repeat("語", 255): false} {
		if err := tuple(free, text); (err == nil) != ok {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}

func TestTemplate_DifferentRowsNeverShareAKey(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, template := range []string{"x:{a}:{b}", "{a}-{b}", "{b}--{a}-", "{a} 1{b}2"} {
		parsed := keyed(t, template, "int", "int").templates[0]
		owner := make(map[string]string)
		for range 20_000 {
			pk := []string{fmt.Sprint(rng.IntN(400) - 200), fmt.Sprint(rng.IntN(400) - 200)}
			key, row := parsed.render(pk), EncodeKey(pk)
			if other, taken := owner[key]; taken && other != row {
				t.Fatalf("%s: %s and %s share %q", template, row, other, key)
			}
			owner[key] = row
		}
	}
}

func TestGuard_SharesTheSlotOfItsDataKey(t *testing.T) {
	t.Parallel()
	if got := slot("123456789"); got != 0x31c3 { // the check value of CRC16/XMODEM
		t.Fatalf("slot of the check value = %#x", got)
	}
	for key, want := range map[string]string{
		"order:42": "qg:{order:42}", "a:é": "qg:{a:é}", "{user:1}:name": "qg::{user:1}:name", "x{a}{b}": "qg::x{a}{b}", "{}{a}": "", "a{}b": "", "a}b": "", "}{": "", "{": "", "}": "", "{}": "", "a}{b}": "qg::a}{b}",
	} {
		guard := GuardKey("qg:", key)
		if slot(key) != slot(guard) {
			t.Errorf("%q and %q are in different slots", key, guard)
		}
		if want != "" && guard != want {
			t.Errorf("guard of %q = %q, want %q", key, guard, want)
		}
	}
}

// Every slot has its tag, or some key with stray braces would have a guard elsewhere.
func TestGuard_EverySlotHasAShortTag(t *testing.T) {
	t.Parallel()
	for want, tag := range slotTags() {
		if tag == "" || len(tag) > 5 || int(slot("{"+tag+"}")) != want {
			t.Fatalf("tag of slot %d = %q, of slot %d", want, tag, slot("{"+tag+"}"))
		}
	}
}

// slot is Redis Cluster's rule, written from its specification and not from the code under test.
func slot(key string) uint16 {
	if _, after, ok := strings.Cut(key, "{"); ok {
		if tag, _, closed := strings.Cut(after, "}"); closed && tag != "" {
			key = tag
		}
	}
	var crc uint16
	for _, c := range []byte(key) {
		crc ^= uint16(c) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc % 16384
}

func FuzzTemplate(f *testing.F) {
	for _, s := range []string{"order:{id}", "{a}{b}", "{a}:{b}", "x{", "}", "{{a}}", "{{{a}}}:{b}", "a\x00{a}", "{a}0{b}", "{a}-{b}", "{a}}}{{{b}", "qg:{a}"} {
		f.Add(s, "1", "-2", "1", "2")
		f.Add(s, "x:", "", "x", ":")
		f.Add(s, "1-", "-2", "1", "--2")
	}
	kinds := [][]string{{"bigint", "bigint"}, {"varchar(255)", "varchar(255)"}, {"decimal(20,2)", "varchar(255)"}, {"varchar(255)", "varbinary(99)"}, {"date", "varchar(9)"}, {"inet6", "varchar(9)"}}
	f.Fuzz(func(t *testing.T, s, a, b, c, d string) {
		for _, types := range kinds {
			m, err := Compile(keyedSpec(s, types...), 1, keyedColumns("utf8mb4_bin", types...))
			if err != nil {
				continue
			}
			first, second := tupleOf(m, a, b), tupleOf(m, c, d)
			if first == nil || second == nil {
				continue
			}
			key, other := m.Key(first), m.Key(second)
			if back, ok := m.Parse(key); !ok || !slices.Equal(back, first) {
				t.Errorf("%q of %q renders %q, which parses to %q, %t", s, first, key, back, ok)
			}
			if (key == other) != slices.Equal(first, second) {
				t.Errorf("%q: %q and %q render %q and %q", s, first, second, key, other)
			}
			guard, otherGuard := m.Guard(key), m.Guard(other)
			if key == "" || len(key) > KeyBytesMax || strings.Contains(key, "\x00") || slot(key) != slot(guard) {
				t.Errorf("%q renders %q with guard %q", s, key, guard)
			}
			if (guard == otherGuard) != (key == other) || key == otherGuard || other == guard {
				t.Errorf("%q and %q have guards %q and %q", key, other, guard, otherGuard)
			}
		}
	})
}

func tupleOf(m *Mapping, parts ...string) []string {
	raw := make([]json.RawMessage, len(parts))
	for i, part := range parts {
		if !utf8.ValidString(part) {
			return nil
		}
		raw[i] = appendString(nil, part)
	}
	tuple, err := m.Tuple(raw)
	if err != nil {
		return nil
	}
	return tuple
}

// Any text may be a key here: keys of raw text are the worst that GuardKey gets.
func FuzzGuardKey(f *testing.F) {
	for _, s := range []string{"a", "{a}", "a}b", "{}", "qg:{a}", "x{{a}}", "}{a}"} {
		f.Add(s, "{"+s+"}")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if a == "" || b == "" {
			return // no data key is empty
		}
		x, y := GuardKey("qg:", a), GuardKey("qg:", b)
		if slot(a) != slot(x) || slot(b) != slot(y) || (a == b) != (x == y) {
			t.Errorf("%q and %q have guards %q and %q", a, b, x, y)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"x:1:2", "x:-1:--2", "x:01:2", "x::", "x:1:2:3", "x:0:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, key string) {
		for _, m := range []*Mapping{keyed(t, "x:{a}:{b}", "bigint", "varchar(99)"), keyed(t, "x:{b}:{a}", "int", "varchar(99)"), keyed(t, "x:{a}:{b}", "varbinary(9)", "decimal(5,2)")} {
			if tuple, ok := m.Parse(key); ok && (m.CheckTuple(tuple) != nil || m.Key(tuple) != key) {
				t.Errorf("%q parses to %q", key, tuple)
			}
		}
	})
}
