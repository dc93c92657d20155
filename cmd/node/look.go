package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/httpapi"
	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/mysql"
	"github.com/quiescehq/quiesce/rediscache"
)

const shownBytesMax = 64 << 10

// look shows a row, what it becomes, and what the cache has under each of its keys.
func look(ctx context.Context, rule *mapping.Mapping, source *mysql.Source, target *rediscache.Target, encoded string) (api.KeyCheck, error) {
	tuple, err := mapping.DecodeKey(encoded)
	if err != nil {
		return api.KeyCheck{}, edgeError(err)
	}
	row, err := source.ReadRow(ctx, rule, tuple)
	if err != nil {
		return api.KeyCheck{}, edgeError(err)
	}
	keys := rule.Keys(tuple)
	held, guards, err := readCache(ctx, rule, target, keys)
	if err != nil {
		return api.KeyCheck{}, fmt.Errorf("%w: %s", httpapi.ErrTargetUnreachable, publicReason(err))
	}
	out := api.KeyCheck{Row: shownRow(rule, row), Keys: make([]api.CachedKey, len(keys))}
	wanted, unfit := rule.AppendWrites(nil, tuple, row, 0)
	masked := slices.ContainsFunc(rule.Spec().Columns, func(c mapping.ColumnSpec) bool { return c.Mask })
	for i, key := range keys {
		shown := &out.Keys[i]
		*shown = api.CachedKey{Key: key, Type: held[i].Type, TTLMs: held[i].TTLMillis, Have: shownActual(rule, masked, held[i]), Guard: shownGuard(rule.Guard(key), guards[i])}
		if unfit != nil { // a row without a rendering must have no key
			shown.Verdict = mapping.Equal.String()
			if held[i].Type != mapping.TypeNone {
				shown.Verdict = mapping.Stale.String()
			}
			continue
		}
		verdict, err := rule.Compare(tuple, row, held[i])
		if err != nil {
			return api.KeyCheck{}, err
		}
		shown.Verdict = verdict.String()
		if w := wanted[i]; w.Op != mapping.OpDel && w.Op != mapping.OpDelFields {
			shown.Want = shownWrite(rule, masked, row, w)
		}
	}
	return out, nil
}

func readCache(ctx context.Context, rule *mapping.Mapping, target *rediscache.Target, keys []string) ([]mapping.Actual, []rediscache.GuardState, error) {
	kind := mapping.TypeString
	if rule.Spec().Encoding == mapping.Hash {
		kind = mapping.TypeHash
	}
	requests, names := make([]rediscache.KeyRequest, len(keys)), make([]string, len(keys))
	for i, key := range keys {
		requests[i], names[i] = rediscache.KeyRequest{Key: key, Type: kind}, rule.Guard(key)
	}
	guards, err := target.Guards(ctx, names)
	if err != nil {
		return nil, nil, err
	}
	held, err := target.Read(ctx, requests)
	return held, guards, err
}

func shownGuard(key string, g rediscache.GuardState) *api.GuardView {
	if !g.Present || g.Foreign {
		return nil
	}
	return &api.GuardView{Key: key, Token: g.Token, InvalidatedAt: uint64(max(g.InvalidatedMillis, 0)), TTLMs: g.TTLMillis}
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
		text := clip(cellText(c, row.Values[i]))
		if rule.Spec().Columns[i].Mask {
			text = maskedText
		}
		out.Values[c.Name] = &text
	}
	return out
}

// cellText is a cell as it is shown: bytes as hex.
func cellText(c mapping.Column, cell mapping.Cell) string {
	if c.Kind == mapping.KindBinary {
		return hex.EncodeToString(cell.Bytes[:min(len(cell.Bytes), shownBytesMax)])
	}
	return string(cell.Bytes)
}

// maskedText stands for a value that its mapping says is not to be shown.
const maskedText = "***"

// shownActual and shownWrite leave what is masked to the mapping, whose form is that of the differences of a pass.
func shownActual(rule *mapping.Mapping, masked bool, held mapping.Actual) string {
	if masked {
		return rule.ShowActual(held, shownBytesMax)
	}
	return shownValue(held.Value, held.Fields)
}

func shownWrite(rule *mapping.Mapping, masked bool, row *mapping.Row, w mapping.Write) string {
	if masked {
		return rule.ShowRow(row, shownBytesMax)
	}
	return shownValue(w.Value, w.Fields)
}

// shownValue shows a string as it is and a hash as an object of its fields.
func shownValue(value []byte, fields []mapping.Field) string {
	if fields == nil {
		return clip(string(value))
	}
	object := map[string]string{}
	for _, f := range fields {
		if !f.Null {
			object[f.Name] = clip(string(f.Value))
		}
	}
	text, err := json.Marshal(object)
	if err != nil {
		panic(err) // texts only
	}
	return clip(string(text))
}

// clip gives UTF-8 of a bounded length: values may be bytes, and travel as JSON.
func clip(text string) string { return clipTo(text, shownBytesMax) }

func clipTo(text string, most int) string {
	return strings.ToValidUTF8(text[:min(len(text), most)], "\ufffd")
}
