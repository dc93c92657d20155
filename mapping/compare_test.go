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
	want, wanted, err := m.DigestRow(pk, c.row)
	if err != nil {
		t.Errorf("%s: DigestRow: %v", c.name, err)
	}
	held, holds := m.DigestActual(m.Key(pk), c.actual)
	same := wanted == holds && (!wanted || want == held)
	if value := c.want == Equal || c.want == FormatOnly || c.want == NoTTL; same != value {
		t.Errorf("%s: digests agree = %t with verdict %v", c.name, same, c.want)
	}
}

func TestCompare_JSON(t *testing.T) {
	t.Parallel()
	spec := ordersSpec(JSON, "total", "note", "doc")
	spec.TTLMillis = 1_000
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
		{"empty is not NULL", rowOf(42, "12.50", ""), hash("total", "12.50"), Stale},
		{"any order", rowOf(42, "12.50", ""), hash("total", "12.50", "note", ""), Equal},
		{"all NULL leaves no key", nulls, absent(), Equal},
		{"all NULL beside a foreign field", nulls, hash("seen", "1"), Equal},
		{"all NULL, old value held", nulls, hash("total", "1"), Stale},
	} {
		c.check(t, m)
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
