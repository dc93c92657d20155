package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/httpapi"
	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/mysql"
	"github.com/quiescehq/quiesce/rediscache"
)

const shownBytesMax = 64 << 10

// look shows a row, what it becomes, and what the cache has.
func look(ctx context.Context, rule *mapping.Mapping, source *mysql.Source, target *rediscache.Target, key string) (api.KeyCheck, error) {
	pk, err := mapping.DecodePK(key)
	if err != nil {
		return api.KeyCheck{}, edgeError(err)
	}
	row, err := source.ReadRow(ctx, rule, pk)
	if err != nil {
		return api.KeyCheck{}, edgeError(err)
	}
	wanted := mapping.TypeString
	if rule.Spec().Encoding == mapping.Hash {
		wanted = mapping.TypeHash
	}
	held, err := target.Read(ctx, []rediscache.KeyRequest{{Key: rule.Key(pk), Type: wanted}})
	if err != nil {
		return api.KeyCheck{}, fmt.Errorf("%w: %s", httpapi.ErrTargetUnreachable, publicReason(err))
	}
	verdict, err := rule.Compare(pk, row, held[0])
	if err != nil {
		return api.KeyCheck{}, err
	}
	shown := api.CachedKey{Key: rule.Key(pk), Verdict: verdict.String(), Type: held[0].Type, TTLMs: held[0].TTLMillis, Have: shownValue(held[0].Value, held[0].Fields)}
	if row != nil {
		want, err := rule.Render(pk, row, 0)
		if err != nil {
			return api.KeyCheck{}, err
		}
		shown.Want = shownValue(want.Value, want.Fields)
	}
	return api.KeyCheck{Row: shownRow(rule, row), Keys: []api.CachedKey{shown}}, nil
}

func shownRow(rule *mapping.Mapping, row *mapping.Row) *api.KeyRow {
	if row == nil {
		return nil
	}
	out := &api.KeyRow{PK: row.PK, Values: map[string]*string{}}
	for i, c := range rule.Columns() {
		if row.Values[i].Null {
			out.Values[c.Name] = nil
			continue
		}
		text := clip(string(row.Values[i].Bytes))
		out.Values[c.Name] = &text
	}
	return out
}

// shownValue shows a string as it is and a hash as an object of its fields.
func shownValue(value []byte, fields []mapping.Field) string {
	if fields == nil {
		return clip(string(value))
	}
	object := map[string]string{}
	for _, f := range fields {
		if !f.Null {
			object[f.Name] = string(f.Value)
		}
	}
	text, err := json.Marshal(object)
	if err != nil {
		panic(err) // texts only
	}
	return clip(string(text))
}

func clip(text string) string { return text[:min(len(text), shownBytesMax)] }
