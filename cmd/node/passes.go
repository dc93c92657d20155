package main

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/httpapi"
	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/reconcile"
)

// Pass implements httpapi.Mappings: what would end a pass at its beginning is refused before it.
func (m mappings) Pass(_ context.Context, record fsm.Mapping, asked httpapi.PassAsked) (from, to string, err error) {
	rule, err := m.rules.compile(record)
	if err != nil {
		return "", "", err
	}
	switch spec := rule.Spec(); {
	case asked.Extras && !spec.OwnsPrefix:
		return "", "", passFault("extras", "the mapping does not say owns_prefix: keys that look like its own may be somebody else's")
	case !rule.NeedsRow() && asked.Mode != api.PassInvalidate && !asked.Extras:
		return "", "", passFault("mode", "the mapping only invalidates, so any value of a row that is there is right: extras finds keys without a row, invalidate removes them all")
	}
	if from, err = placeOf(rule, "range.from", asked.From); err != nil {
		return "", "", err
	}
	to, err = placeOf(rule, "range.to", asked.To)
	return from, to, err
}

func placeOf(rule *mapping.Mapping, field string, raw []json.RawMessage) (string, error) {
	if len(raw) == 0 {
		return "", nil
	}
	place, err := rule.Place(raw)
	var wrong *mapping.KeyError
	switch {
	case errors.As(err, &wrong):
		return "", passFault(field, wrong.Error())
	case err != nil:
		return "", err
	}
	return mapping.EncodeKey(place), nil
}

func passFault(field, reason string) error {
	return &httpapi.InvalidError{Faults: []api.Fault{{Field: field, Reason: reason}}}
}

// passesView is the reconciliation as the edge shows it. It implements httpapi.Passes.
type passesView struct{ task *reconcile.Task }

// Progress implements httpapi.Passes.
func (v passesView) Progress() []httpapi.PassProgress {
	var out []httpapi.PassProgress
	for _, p := range v.task.Progress() {
		out = append(out, httpapi.PassProgress{Pass: p.Pass, Mapping: p.Mapping, RowsPerSecond: p.RowsPerSecond, ETA: p.ETA, Waiting: p.Waiting, Throttled: p.Throttled, Open: p.Open, ChunkRows: p.ChunkRows})
	}
	return out
}

// Agreement implements httpapi.Passes.
func (v passesView) Agreement() []httpapi.Agreement {
	var out []httpapi.Agreement
	for _, a := range v.task.Agreement() {
		out = append(out, httpapi.Agreement(a))
	}
	return out
}
