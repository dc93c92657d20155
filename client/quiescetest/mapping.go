package quiescetest

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/httpapi"
)

// anyMapping takes every JSON object for a mapping and every text or integer for a part of a primary key: there is no database here whose
// columns could say otherwise.
type anyMapping struct{}

func (anyMapping) Check(_ context.Context, _ string, spec []byte) (httpapi.Checked, error) {
	var s struct{ Source, Target, Table string }
	if err := json.Unmarshal(spec, &s); err != nil {
		return httpapi.Checked{}, wrong("spec", "must be an object")
	}
	return httpapi.Checked{Source: s.Source, Target: s.Target, Table: s.Table, Columns: []byte("[]")}, nil
}

// Inspect finds nothing wrong with what Check takes.
func (m anyMapping) Inspect(ctx context.Context, name string, spec []byte) (api.MappingCheck, error) {
	_, err := m.Check(ctx, name, spec)
	return api.MappingCheck{OK: err == nil, Findings: []api.Finding{}}, err
}

// Keys takes every key for one of the key columns.
func (m anyMapping) Keys(ctx context.Context, record fsm.Mapping, e httpapi.RowKeys) ([]string, error) {
	keys := [][]json.RawMessage{e.Old, e.New}
	if len(e.New) == 0 {
		keys[1] = e.PK
	}
	var out []string
	for _, key := range keys {
		if len(key) == 0 || slices.ContainsFunc(key, func(part json.RawMessage) bool { return string(part) == "null" }) {
			continue
		}
		canonical, err := m.Key(ctx, record, key)
		if err != nil {
			return nil, err
		}
		out = append(out, canonical)
	}
	return out, nil
}

// Look fails: there is neither a database nor a cache here.
func (anyMapping) Look(context.Context, fsm.Mapping, string) (api.KeyCheck, error) {
	return api.KeyCheck{}, httpapi.ErrSourceUnreachable
}

// Pass takes every range.
func (m anyMapping) Pass(ctx context.Context, record fsm.Mapping, asked httpapi.PassAsked) (from, to string, err error) {
	for _, end := range []struct {
		raw  []json.RawMessage
		text *string
	}{{asked.From, &from}, {asked.To, &to}} {
		if len(end.raw) == 0 {
			continue
		}
		if *end.text, err = m.Key(ctx, record, end.raw); err != nil {
			return "", "", err
		}
	}
	return from, to, nil
}

func (anyMapping) Key(_ context.Context, _ fsm.Mapping, pk []json.RawMessage) (string, error) {
	parts := make([]string, len(pk))
	for i, raw := range pk {
		decoder := json.NewDecoder(bytes.NewReader(raw))
		decoder.UseNumber()
		var part any
		if err := decoder.Decode(&part); err != nil {
			return "", wrong("pk", "must be text or integers")
		}
		switch part := part.(type) {
		case string:
			parts[i] = part
		case json.Number:
			if _, err := part.Int64(); err != nil {
				return "", wrong("pk", "must be text or integers")
			}
			parts[i] = part.String()
		default:
			return "", wrong("pk", "must be text or integers")
		}
	}
	canonical, err := json.Marshal(parts)
	return string(canonical), err
}

func wrong(field, reason string) error {
	return &httpapi.InvalidError{Faults: []api.Fault{{Field: field, Reason: reason}}}
}
