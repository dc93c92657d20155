package quiescetest

import (
	"bytes"
	"context"
	"encoding/json"

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

func (anyMapping) PK(_ context.Context, _ fsm.Mapping, pk []json.RawMessage) (string, error) {
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
