package mapping

import (
	"strings"
	"testing"
)

const secret = "4711-secret"

func shown(t *testing.T, encoding Encoding, columns ...ColumnSpec) *Mapping {
	t.Helper()
	all := []Column{NewColumn("id", "int", false), NewColumn("name", "varchar(50)", true), NewColumn("card", "varchar(50)", true)}
	all[0].KeyPart = 1
	m, err := Compile(Spec{Source: "s", Table: "t", PrimaryKey: []string{"id"}, Target: "c", Key: "t:{id}", Mode: WriteThrough, Encoding: encoding, Columns: columns}, 1, all)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestShow_MaskedColumnIsOnNeitherSide(t *testing.T) {
	t.Parallel()
	name, card := ColumnSpec{Name: "name"}, ColumnSpec{Name: "card", As: "pan", Mask: true}
	row := &Row{Key: []string{"1"}, Values: []Cell{{Bytes: []byte("Zoë")}, {Bytes: []byte(secret)}}}
	text := func(value string) Actual { return Actual{Type: TypeString, Value: []byte(value)} }
	j, h := shown(t, JSON, name, card), shown(t, Hash, name, card)
	single := shown(t, String, ColumnSpec{Name: "card", Mask: true})
	for what, got := range map[string]struct{ text, want string }{
		"row as JSON":              {j.ShowRow(row, 500), `{"name":"Zoë","pan":"***"}`},
		"row as hash":              {h.ShowRow(row, 500), "name=Zoë pan=***"},
		"row as text":              {single.ShowRow(&Row{Key: []string{"1"}, Values: row.Values[1:]}, 500), "***"},
		"key as JSON":              {j.ShowActual(text(`{ "name" : 1.50, "pan": "`+secret+`"}`), 500), `{"name":1.50,"pan":"***"}`},
		"member nobody knows":      {j.ShowActual(text(`{"card":"`+secret+`","name":null}`), 500), `{"card":"***","name":null}`},
		"object in a masked one":   {j.ShowActual(text(`{"pan":{"name":"`+secret+`"}}`), 500), `{"pan":"***"}`},
		"the same twice":           {j.ShowActual(text(`{"pan":1,"pan":"`+secret+`"}`), 500), `{"pan":"***","pan":"***"}`},
		"key of a missing row":     {j.ShowActual(text("null"), 500), "null"},
		"fields":                   {h.ShowActual(Actual{Type: TypeHash, Fields: []Field{{Name: "pan", Value: []byte(secret)}, {Name: "old", Value: []byte(secret)}, {Name: "name", Value: []byte("x")}}}, 500), "name=x old=*** pan=***"},
		"text":                     {single.ShowActual(text(secret), 500), "***"},
		"another type":             {j.ShowActual(Actual{Type: TypeOther}, 500), "(other)"},
		"nothing":                  {j.ShowActual(Actual{Type: TypeNone}, 500), ""},
		"nothing masked, anything": {shown(t, JSON, name).ShowActual(text("what{ever"), 500), "what{ever"},
	} {
		if got.text != got.want {
			t.Errorf("%s: %q, want %q", what, got.text, got.want)
		}
	}
	for _, value := range []string{secret, `["` + secret + `"]`, `{"name":"` + secret, `{"pan":1}"` + secret + `"`, `{"name":"x"}{"name":"` + secret + `"}`, "\xff" + secret} {
		if got := j.ShowActual(text(value), 500); !strings.HasPrefix(got, "(") || !strings.Contains(got, "bytes, digest ") || strings.Contains(got, "4711") {
			t.Errorf("%q is shown as %q", value, got)
		}
	}
	asHash := Actual{Type: TypeHash, Fields: []Field{{Name: "name", Value: []byte(secret)}}}
	if got := j.ShowActual(asHash, 500); strings.Contains(got, "4711") {
		t.Errorf("a hash where a text should be: %q", got)
	}
	if one, two := j.ShowActual(text("a"+secret), 500), j.ShowActual(text("b"+secret), 500); one == two {
		t.Error("two values look the same")
	}
}

func TestShow_IsClippedText(t *testing.T) {
	t.Parallel()
	m := shown(t, JSON, ColumnSpec{Name: "name"})
	for _, value := range []string{strings.Repeat("é", 300), "\xff" + strings.Repeat("a", 300), strings.Repeat("🚲", 200)} {
		got := m.ShowActual(Actual{Type: TypeString, Value: []byte(value)}, 101)
		if len(got) > 101 || len(got) < 97 || strings.ToValidUTF8(got, "?") != got {
			t.Errorf("%d bytes of %.10q: %.20q", len(got), value, got)
		}
	}
}

func TestSpec_KeysCannotBeMasked(t *testing.T) {
	t.Parallel()
	spec := Spec{Source: "s", Table: "t", PrimaryKey: []string{"id"}, KeyColumns: []string{"mail"}, Target: "c", Key: "t:{mail}", Mode: WriteThrough, Encoding: JSON,
		Columns: []ColumnSpec{{Name: "id", Mask: true}, {Name: "mail", Mask: true}, {Name: "card", Mask: true}}}
	err := spec.Validate()
	if err == nil || !strings.Contains(err.Error(), "columns[0].mask") || !strings.Contains(err.Error(), "columns[1].mask") || strings.Contains(err.Error(), "columns[2]") {
		t.Error(err)
	}
}
