package main

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/httpapi"
	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/mysql"
	"github.com/quiescehq/quiesce/rediscache"
)

// recordOf is a mapping of a table with the primary key id and the column parent, keyed by the given columns.
func recordOf(t *testing.T, keyColumns ...string) fsm.Mapping {
	t.Helper()
	id, parent := mapping.NewColumn("id", "bigint", false), mapping.NewColumn("parent", "varchar(20)", true)
	id.KeyPart, parent.Collation = 1, "utf8mb4_bin"
	spec := mapping.Spec{Source: "s", Table: "t", PrimaryKey: []string{"id"}, KeyColumns: keyColumns, Target: "c", Key: "k:{" + append(keyColumns, "id")[0] + "}", Mode: mapping.Invalidate}
	record := fsm.Mapping{Name: "m", Revision: 1}
	var err error
	if record.Spec, err = json.Marshal(spec); err != nil {
		t.Fatal(err)
	}
	if record.Columns, err = json.Marshal([]mapping.Column{id, parent}); err != nil {
		t.Fatal(err)
	}
	return record
}

func raw(texts ...string) (out []json.RawMessage) {
	for _, text := range texts {
		out = append(out, json.RawMessage(text))
	}
	return out
}

func TestKeys_AnEventNamesTheKeysThatItTouches(t *testing.T) {
	t.Parallel()
	byID, byParent := recordOf(t), recordOf(t, "parent")
	for name, c := range map[string]struct {
		record fsm.Mapping
		event  httpapi.RowKeys
		want   []string
		field  string // of the refusal
	}{
		"primary key":                        {byID, httpapi.RowKeys{PK: raw("7")}, []string{`["7"]`}, ""},
		"primary key that changed":           {byID, httpapi.RowKeys{PK: raw("7"), Old: raw(`"6"`)}, []string{`["6"]`, `["7"]`}, ""},
		"the same twice":                     {byID, httpapi.RowKeys{PK: raw("7"), Old: raw(`"07"`)}, []string{`["7"]`}, ""},
		"new key instead of the primary key": {byID, httpapi.RowKeys{PK: raw("7"), New: raw("8")}, []string{`["8"]`}, ""},
		"no key":                             {byID, httpapi.RowKeys{}, nil, "pk"},
		"wrong primary key":                  {byID, httpapi.RowKeys{PK: raw(`"x"`)}, nil, "pk"},
		"inserted":                           {byParent, httpapi.RowKeys{PK: raw("7"), New: raw(`"a"`)}, []string{`["a"]`}, ""},
		"deleted":                            {byParent, httpapi.RowKeys{PK: raw("7"), Old: raw(`"a "`)}, []string{`["a"]`}, ""},
		"moved":                              {byParent, httpapi.RowKeys{Old: raw(`"a"`), New: raw(`"b"`)}, []string{`["a"]`, `["b"]`}, ""},
		"moved to nowhere":                   {byParent, httpapi.RowKeys{Old: raw(`"a"`), New: raw("null")}, []string{`["a"]`}, ""},
		"nowhere":                            {byParent, httpapi.RowKeys{New: raw("null")}, nil, ""},
		"primary key alone is not enough":    {byParent, httpapi.RowKeys{PK: raw("7")}, nil, "new_key"},
		"wrong old key":                      {byParent, httpapi.RowKeys{Old: raw("7"), New: raw(`"a"`)}, nil, "old_key"},
	} {
		got, err := mappings{rules: newRules()}.Keys(context.Background(), c.record, c.event)
		invalid, refused := errors.AsType[*httpapi.InvalidError](err)
		if refused != (c.field != "") || refused && invalid.Faults[0].Field != c.field || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
}

func TestInspect_EvictionThatTakesGuardsFirstIsRefused(t *testing.T) {
	t.Parallel()
	for policy, want := range map[string]mysql.Level{
		"noeviction": "", "volatile-ttl": mysql.LevelError, "volatile-random": mysql.LevelError, "allkeys-random": mysql.LevelError, "allkeys-lru": mysql.LevelWarning, "volatile-lfu": mysql.LevelWarning, "": mysql.LevelWarning,
	} {
		for _, mode := range []mapping.Mode{mapping.WriteThrough, mapping.WriteIfPresent} {
			var got mysql.Level
			if found := evictionFindings(mapping.Spec{Mode: mode}, policy, nil); len(found) > 0 {
				got = found[0].Level
			}
			if got != want {
				t.Errorf("%s on %q: %q, want %q", mode, policy, got, want)
			}
		}
		if found := evictionFindings(mapping.Spec{Mode: mapping.Invalidate}, policy, nil); len(found) > 0 {
			t.Errorf("invalidate on %q: %v", policy, found)
		}
	}
	if found := evictionFindings(mapping.Spec{}, "", rediscache.ErrUnreachable); len(found) != 1 || found[0].Level != mysql.LevelWarning {
		t.Errorf("a target that is down: %v", found)
	}
}

func TestInspect_KeysLongerThanTheLogTakesAreTold(t *testing.T) {
	t.Parallel()
	columns := []mapping.Column{mapping.NewColumn("id", "bigint(20)", false), mapping.NewColumn("email", "varchar(255)", false), mapping.NewColumn("path", "varchar(600)", false),
		mapping.NewColumn("hash", "varbinary(240)", false), mapping.NewColumn("code", "varchar(64)", false)}
	for _, c := range []struct {
		primary, keys []string
		want          []string
	}{
		{[]string{"id"}, nil, nil},
		{[]string{"id", "code"}, []string{"code"}, nil},
		{[]string{"hash"}, nil, nil},
		{[]string{"hash", "code"}, nil, []string{"warning primary_key", "warning key_columns"}},
		{[]string{"email"}, []string{"code"}, []string{"note primary_key"}},
		{[]string{"id"}, []string{"path"}, []string{"warning key_columns"}},
	} {
		var got []string
		for _, f := range keyLengthFindings(mapping.Spec{PrimaryKey: c.primary, KeyColumns: c.keys}, columns) {
			got = append(got, string(f.Level)+" "+f.Field)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%v by %v: %q, want %q", c.keys, c.primary, got, c.want)
		}
	}
}
