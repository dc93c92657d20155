package mapping

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestTemplate_RefusesWhatWouldMoveOrShareAKey(t *testing.T) {
	t.Parallel()
	for _, template := range []string{
		"", "order", "order:{id}", "order:{id}:{item}:{id}", "order:{id}{item}", "order:{id}1{item}", "order:{id}:{item", "order:id}:{item}", "order:{{id}}:{item}", "{order}:{id}:{item}",
		"order:{}:{id}:{item}", `order:\{x\}:{id}:{item}`, "order:{id}:{item}\x00", "order:{id}\n{item}", "order:{id}:{item}:{", "order:{id}:{item}}", "order:{ID}:{item}", "\xff{id}:{item}",
	} {
		if _, err := parseTemplate(template, []string{"id", "item"}); err == nil {
			t.Errorf("%q is accepted", template)
		}
	}
	for template, want := range map[string]string{"{id}:{item}": "-1:-2", "cart:{item}/of/{id}": "cart:-2/of/-1", "é {id}-{item}!9": "é -1--2!9"} {
		parsed, err := parseTemplate(template, []string{"id", "item"})
		if err != nil {
			t.Errorf("%q: %v", template, err)
		} else if got := parsed.render([]string{"-1", "-2"}); got != want {
			t.Errorf("%q renders %q, want %q", template, got, want)
		}
	}
}

func TestTemplate_DifferentRowsNeverShareAKey(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, template := range []string{"x:{a}:{b}", "{a}-{b}", "{b}--{a}-", "{a} 1{b}2"} {
		parsed, err := parseTemplate(template, []string{"a", "b"})
		if err != nil {
			t.Fatal(err)
		}
		owner := make(map[string]string)
		for range 20_000 {
			pk := []string{fmt.Sprint(rng.IntN(400) - 200), fmt.Sprint(rng.IntN(400) - 200)}
			key, row := parsed.render(pk), EncodePK(pk)
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
	m := keyed(t, "a:{a}:é", "bigint")
	for _, id := range []string{"0", "42", "-9223372036854775808"} {
		key := m.Key([]string{id})
		if slot(key) != slot(Guard(key)) {
			t.Errorf("%q and %q are in different slots", key, Guard(key))
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
	for _, s := range []string{"order:{id}", "{a}{b}", "{a}:{b}", "x{", "}", "{{a}}", "a\x00{a}", "{a}0{b}"} {
		f.Add(s, "1", "-2")
	}
	f.Fuzz(func(t *testing.T, s, a, b string) {
		column := NewColumn("a", "bigint", false)
		a, reasonA := column.canonicalInteger(a)
		b, reasonB := column.canonicalInteger(b)
		parsed, err := parseTemplate(s, []string{"a", "b"})
		if err != nil || reasonA != "" || reasonB != "" {
			return
		}
		key := parsed.render([]string{a, b})
		if key == "" || len(key) > KeyBytesMax || strings.ContainsAny(key, "{}\x00") {
			t.Errorf("%q renders %q", s, key)
		}
		if slot(key) != slot(Guard(key)) {
			t.Errorf("guard of %q is elsewhere", key)
		}
		if a != b && key == parsed.render([]string{b, a}) {
			t.Errorf("%q: two rows share %q", s, key)
		}
	})
}
