package mapping

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"
)

func TestPlace_HasTheTextByWhichTheTableIsReadOn(t *testing.T) {
	t.Parallel()
	cases := []struct{ columnType, raw, want string }{
		{"bigint", `42`, "42"}, {"bigint unsigned", `"18446744073709551615"`, "18446744073709551615"}, {"int", `"007"`, "7"}, {"int", `"x"`, ""}, {"int", `2147483648`, ""},
		{"varchar(20)", `"Ärger"`, "Ärger"}, {"varchar(20)", `7`, ""}, {"decimal(10,2)", `12.5`, "12.50"}, {"decimal(10,2)", `"abc"`, ""},
		{"binary(2)", `"00FF"`, "00ff"}, {"binary(2)", `"00"`, ""}, {"varbinary(4)", `"0g"`, ""}, {"date", `"2024-02-29"`, "2024-02-29"}, {"date", `"2023-02-29"`, ""},
		{"timestamp", `"2024-02-29 10:00:00"`, "2024-02-29 10:00:00"}, {"time", `"-838:59:59"`, "-838:59:59"}, {"time", `"8 o'clock"`, ""}, {"time", `"08:30:0'"`, ""},
		{"year", `2024`, "2024"}, {"bit(3)", `5`, "5"}, {"enum('a','b')", `1`, "1"}, {"enum('a','b')", `"a"`, ""}, {"int", `null`, ""},
	}
	for _, c := range cases {
		text, reason := NewColumn("a", c.columnType, false).place(json.RawMessage(c.raw))
		if reason != "" {
			text = ""
		}
		if text != c.want {
			t.Errorf("%s %s: %q (%s), want %q", c.columnType, c.raw, text, reason, c.want)
		}
	}
}

// A place needs the whole primary key, whatever the key columns are.
func TestPlace_IsOfThePrimaryKey(t *testing.T) {
	t.Parallel()
	m := keyed(t, "x:{a}:{b}", "int", "varchar(20)")
	place, err := m.Place([]json.RawMessage{json.RawMessage("7"), json.RawMessage(`"B"`)})
	if err != nil || !slices.Equal(place, []string{"7", "B"}) {
		t.Errorf("%q, %v", place, err)
	}
	var fault *KeyError
	if _, err := m.Place([]json.RawMessage{json.RawMessage("7")}); !errors.As(err, &fault) || fault.Part != -1 {
		t.Error(err)
	}
	if _, err := m.Place([]json.RawMessage{json.RawMessage("7"), json.RawMessage("8")}); !errors.As(err, &fault) || fault.Column != "b" {
		t.Error(err)
	}
}
