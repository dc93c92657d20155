package mapping

import (
	"errors"
	"testing"
)

func text(s string) Actual    { return Actual{Type: TypeString, Value: []byte(s), TTLMillis: 500} }
func absent() Actual          { return Actual{Type: TypeNone, TTLMillis: -2} }
func other() Actual           { return Actual{Type: TypeOther, TTLMillis: 500} }
func forever(a Actual) Actual { a.TTLMillis = NoExpiry; return a }

func hash(pairs ...string) Actual {
	a := Actual{Type: TypeHash, TTLMillis: 500}
	for i := 0; i < len(pairs); i += 2 {
		a.Fields = append(a.Fields, Field{Name: pairs[i], Value: []byte(pairs[i+1])})
	}
	return a
}

type comparison struct {
	name   string
	row    *Row
	actual Actual
	want   Verdict
}

// check also holds the digests to the verdict: equal digests exactly when the values are the same.
func (c comparison) check(t *testing.T, m *Mapping) {
	t.Helper()
	pk := []string{"42"}
	got, err := m.Compare(pk, c.row, c.actual)
	if err != nil || got != c.want {
		t.Errorf("%s: %v, %v; want %v", c.name, got, err, c.want)
	}
	if m.Spec().Mode == Invalidate {
		return
	}
	want, wanted, err := m.DigestRow(m.Key(pk), c.row)
	if err != nil {
		t.Errorf("%s: DigestRow: %v", c.name, err)
	}
	held, holds := m.DigestActual(m.Key(pk), c.actual)
	if c.want == Equal && c.actual.Type == TypeNone {
		return // a miss, where presence is optional
	}
	same := wanted == holds && (!wanted || want == held)
	if value := c.want == Equal || c.want == FormatOnly || c.want == NoTTL; same != value {
		t.Errorf("%s: digests agree = %t with verdict %v", c.name, same, c.want)
	}
}

func TestCompare_JSON(t *testing.T) {
	t.Parallel()
	spec := ordersSpec(JSON, "total", "note", "doc")
	spec.TTLMillis, spec.Presence = 1_000, Required
	m := compile(t, spec, orders)
	row := rowOf(42, "12.50", "é", `{"b":1,"a":[]}`)
	value := `{"total":12.50,"note":"é","doc":{"b":1,"a":[]}}`
	spaced := "{\"note\" : \"\\u00e9\", \"doc\":{\"a\":[], \"b\":1}, \"total\":12.50}\n"
	duplicate := rowOf(42, "1", "x", `{"a":1,"a":2}`)
	for _, c := range []comparison{
		{"same bytes", row, text(value), Equal},
		{"same value in other bytes", row, text(spaced), FormatOnly},
		{"same bytes without expiry", row, forever(text(value)), NoTTL},
		{"same value without expiry", row, forever(text(spaced)), NoTTL},
		{"another number", row, text(`{"total":12.51,"note":"é","doc":{"b":1,"a":[]}}`), Stale},
		{"another scale", row, text(`{"total":12.5,"note":"é","doc":{"b":1,"a":[]}}`), Stale},
		{"number as a string", row, text(`{"total":"12.50","note":"é","doc":{"b":1,"a":[]}}`), Stale},
		{"null for text", row, text(`{"total":12.50,"note":null,"doc":{"b":1,"a":[]}}`), Stale},
		{"a column less", row, text(`{"total":12.50,"note":"é"}`), Stale},
		{"a column more", row, text(`{"total":12.50,"note":"é","doc":{"b":1,"a":[]},"x":1}`), Stale},
		{"a key twice", row, text(`{"total":12.50,"total":12.50,"note":"é","doc":{"b":1,"a":[]}}`), Stale},
		{"two values", row, text(value + value), Stale},
		{"no JSON", row, text("x"), Stale},
		{"empty", row, text(""), Stale},
		{"absent", row, absent(), Missing},
		{"hash", row, hash("total", "12.50"), WrongType},
		{"list", row, other(), WrongType},
		{"gone and absent", nil, absent(), Equal},
		{"gone and present", nil, text(value), Stale},
		{"gone and of another type", nil, other(), Stale},
		{"row without a canonical form, same bytes", duplicate, text(`{"total":1,"note":"x","doc":{"a":1,"a":2}}`), Equal},
		{"row without a canonical form, other bytes", duplicate, text(`{"total":1,"note":"x","doc":{"a":1,"a":2} }`), Stale},
	} {
		c.check(t, m)
	}
	if verdict, err := m.Compare([]string{"41"}, row, text(value)); !errors.Is(err, ErrUnrenderable) {
		t.Errorf("another row's verdict = %v, %v; want an error", verdict, err)
	}
}

func TestCompare_Hash(t *testing.T) {
	t.Parallel()
	m := compile(t, ordersSpec(Hash, "total", "note"), orders)
	row, nulls := rowOf(42, "12.50", "NULL"), rowOf(42, "NULL", "NULL")
	for _, c := range []comparison{
		{"same", row, hash("total", "12.50"), Equal},
		{"no expiry is asked for", row, forever(hash("total", "12.50")), Equal},
		{"foreign field", row, hash("seen", "1", "total", "12.50"), Equal},
		{"field of a column that became NULL", row, hash("note", "", "total", "12.50"), Stale},
		{"another value", row, hash("total", "12.5"), Stale},
		{"a field less", row, hash("seen", "1"), Stale},
		{"absent", row, absent(), Missing},
		{"string", row, text("x"), WrongType},
		{"gone", nil, hash("total", "12.50"), Stale},
		{"gone, and foreign fields stay", nil, hash("seen", "1"), Equal},
		{"gone, and a field is left", nil, hash("seen", "1", "note", ""), Stale},
		{"gone, string", nil, text("x"), WrongType},
		{"empty is not NULL", rowOf(42, "12.50", ""), hash("total", "12.50"), Stale},
		{"any order", rowOf(42, "12.50", ""), hash("total", "12.50", "note", ""), Equal},
		{"all NULL leaves no key", nulls, absent(), Equal},
		{"all NULL beside a foreign field", nulls, hash("seen", "1"), Equal},
		{"all NULL, old value held", nulls, hash("total", "1"), Stale},
	} {
		c.check(t, m)
	}
}

func TestCompare_OptionalPresenceTakesAnAbsentKeyForAMiss(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*Spec)
		want   Verdict
	}{
		"no ttl":              {func(*Spec) {}, Missing},
		"ttl":                 {func(s *Spec) { s.TTLMillis = 5_000 }, Equal},
		"ttl, required":       {func(s *Spec) { s.TTLMillis, s.Presence = 5_000, Required }, Missing},
		"no ttl, optional":    {func(s *Spec) { s.Presence = Optional }, Equal},
		"if present":          {func(s *Spec) { s.Mode = WriteIfPresent }, Equal},
		"if present, no JSON": {func(s *Spec) { s.Mode, s.Encoding = WriteIfPresent, Hash }, Equal},
	} {
		spec := ordersSpec(JSON, "total")
		c.change(&spec)
		m := compile(t, spec, orders)
		comparison{name, rowOf(42, "1"), absent(), c.want}.check(t, m)
		comparison{name + ", stale", rowOf(42, "1"), map[bool]Actual{false: text("2"), true: hash("total", "2")}[spec.Encoding == Hash], Stale}.check(t, m)
	}
}

func TestCompare_MissingRowMayLeaveItsNegativeValue(t *testing.T) {
	t.Parallel()
	spec := ordersSpec(JSON, "total")
	spec.NegativeTTLMillis = 2_000
	excluded := rowOf(42, "1")
	excluded.Excluded = true
	for _, c := range []comparison{
		{"gone and absent", nil, absent(), Equal},
		{"gone and null", nil, text("null"), Equal},
		{"gone and null in other bytes", nil, text(" null\n"), FormatOnly},
		{"gone and null for ever", nil, forever(text("null")), NoTTL},
		{"gone and present", nil, text(`{"total":1}`), Stale},
		{"gone and of another type", nil, other(), Stale},
		{"there and null", rowOf(42, "1"), text("null"), Stale},
		{"excluded and null", excluded, text("null"), Equal},
		{"excluded and present", excluded, text(`{"total":1}`), Stale},
		{"there and right", rowOf(42, "1"), forever(text(`{"total":1}`)), Equal},
	} {
		c.check(t, compile(t, spec, orders))
	}
	spec = ordersSpec(String, "note")
	spec.NegativeTTLMillis = 2_000
	for _, c := range []comparison{
		{"gone and empty", nil, text(""), Equal},
		{"NULL and empty", rowOf(42, "NULL"), text(""), Equal},
		{"NULL and absent", rowOf(42, "NULL"), absent(), Equal},
		{"NULL and a text", rowOf(42, "NULL"), text("NULL"), Stale},
		{"empty and empty", rowOf(42, ""), text(""), Equal},
		{"there and empty", rowOf(42, "x"), text(""), Stale},
		{"there and right", rowOf(42, "x"), text("x"), Equal},
	} {
		c.check(t, compile(t, spec, orders))
	}
}

// Other spaces are another value where a value is no JSON object.
func TestCompare_StringAndRawAreTheirBytes(t *testing.T) {
	t.Parallel()
	doc := compile(t, ordersSpec(String, "doc"), orders)
	raw := compile(t, ordersSpec(Raw, "raw"), orders)
	for _, c := range []comparison{
		{"same text", rowOf(42, `{"a": 1}`), text(`{"a": 1}`), Equal}, {"other spaces", rowOf(42, `{"a": 1}`), text(`{"a":1}`), Stale},
		{"hash", rowOf(42, `{"a": 1}`), hash("a", "1"), WrongType}, {"absent", rowOf(42, "{}"), absent(), Missing}, {"gone", nil, text("{}"), Stale},
	} {
		c.check(t, doc)
	}
	for _, c := range []comparison{
		{"same bytes", rowOf(42, "\x00\xff"), text("\x00\xff"), Equal}, {"a byte less", rowOf(42, "\x00\xff"), text("\x00"), Stale}, {"NULL", rowOf(42, "NULL"), absent(), Equal},
	} {
		c.check(t, raw)
	}
}

func TestCompare_InvalidateJudgesExistenceAlone(t *testing.T) {
	t.Parallel()
	spec := ordersSpec("")
	spec.Mode = Invalidate
	m := compile(t, spec, orders)
	for _, c := range []comparison{
		{"readers' value", rowOf(42), text("anything"), Equal},
		{"readers' type", rowOf(42), other(), Equal},
		{"miss", rowOf(42), absent(), Equal},
		{"gone and absent", nil, absent(), Equal},
		{"gone and present", nil, text("anything"), Stale},
	} {
		c.check(t, m)
	}
}

func TestVerdict_NamesAreTheAPIs(t *testing.T) {
	t.Parallel()
	want := []string{"unknown", "equal", "format_only", "stale", "missing", "wrong_type", "no_ttl", "unknown"}
	for i, name := range want {
		if got := Verdict(i).String(); got != name {
			t.Errorf("Verdict(%d) = %s, want %s", i, got, name)
		}
	}
}
