package httpapi

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

// checkKey shows both sides of a row. What is pending is looked at after them: an event that is not there any more was delivered before.
func (s *Server) checkKey(ctx context.Context, in *unkeyed[api.CheckKey]) (*answer[api.KeyCheck], error) {
	b := &in.Body
	if err := s.fresh(ctx, api.Linearizable); err != nil {
		return nil, err
	}
	names := rowNames{s: s, known: map[string]fsm.Mapping{}}
	ref, err := names.ref(ctx, "body", b.Mapping, b.PK)
	if err != nil {
		return nil, err
	}
	out := &answer[api.KeyCheck]{Status: http.StatusOK}
	if out.Body, err = s.cfg.Mappings.Look(ctx, names.known[b.Mapping], ref.PK); err != nil {
		return nil, s.badKey(ctx, "body", err)
	}
	s.view(func(v view) {
		if e, ok := v.Event(ref); ok {
			shown := s.eventOf(v, e, s.held(v)(ref.Mapping))
			out.Body.Pending = &shown
		}
		if d, ok := v.DeadLetter(ref); ok {
			shown := deadOf(v, d)
			out.Body.Dead = &shown
		}
	})
	out.Index = s.revision()
	if !b.Fix || !differs(out.Body.Keys) {
		return out, nil
	}
	r, err := s.propose(ctx, fsm.Op{Command: fsm.EnqueueEvents{Events: []fsm.RowRef{ref}}})
	if err != nil {
		return nil, err
	}
	out.Body.Fixed, out.Index = &tokensOf(r.Outbox.Tokens)[0], r.Index
	return out, nil
}

func differs(keys []api.CachedKey) bool {
	for _, k := range keys {
		if k.Verdict != api.VerdictEqual && k.Verdict != api.VerdictFormatOnly {
			return true
		}
	}
	return false
}

type timelineQuery struct {
	Mapping string `query:"mapping" required:"true" maxLength:"63"`
	PK      string `query:"pk" required:"true" maxLength:"2048" doc:"A JSON array, in the order of the mapping's key columns"`
}

func (s *Server) keyTimeline(ctx context.Context, in *timelineQuery) (*answer[api.KeyTimeline], error) {
	var key []json.RawMessage
	if err := json.Unmarshal([]byte(in.PK), &key); err != nil || len(key) == 0 {
		return nil, invalid("query.pk", "must be a JSON array such as [42]")
	}
	if err := s.fresh(ctx, api.Linearizable); err != nil {
		return nil, err
	}
	ref, err := rowNames{s: s, known: map[string]fsm.Mapping{}}.ref(ctx, "query", in.Mapping, key)
	if err != nil {
		return nil, err
	}
	out := &answer[api.KeyTimeline]{Status: http.StatusOK, Index: s.revision(), Body: api.KeyTimeline{Entries: []api.KeyEntry{}}}
	if s.cfg.Outbox != nil {
		out.Body = s.cfg.Outbox.Timeline(ref)
	}
	return out, nil
}

func (s *Server) checkMapping(ctx context.Context, in *struct {
	Body *json.RawMessage
}) (*answer[api.MappingCheck], error) {
	name, p := exchangeOf(ctx).subject()
	if p != nil {
		return nil, p
	}
	if err := s.fresh(ctx, api.Linearizable); err != nil {
		return nil, err
	}
	var spec []byte
	if in.Body != nil {
		spec = *in.Body
	}
	if len(spec) > api.SpecBytesMax {
		return nil, overLimit(api.CodeMappingInvalid, "the specification is too long", api.SpecBytesMax)
	}
	if len(spec) == 0 {
		m, err := rowNames{s: s, known: map[string]fsm.Mapping{}}.mapping(ctx, name)
		if err != nil {
			return nil, err
		}
		spec = m.Spec
	}
	found, err := s.cfg.Mappings.Inspect(ctx, name, spec)
	if err != nil {
		return nil, s.unmapped(ctx, err, api.CodeMappingInvalid)
	}
	return &answer[api.MappingCheck]{Status: http.StatusOK, Index: s.revision(), Body: found}, nil
}
