package httpapi

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

// fenceTable is where transactions put their fences. See docs/sync.md.
const fenceTable = "quiesce_fence"

// preparedID is how prepared events are called outside.
func preparedID(id uint64) string { return fsm.PreparedID(id) }

func parsePrepared(id string) (uint64, *refusal) {
	digits, ok := strings.CutPrefix(id, "p")
	n, err := strconv.ParseUint(digits, 10, 64)
	if !ok || err != nil || preparedID(n) != id {
		return 0, invalid("path.id", "must be the id that a prepare answered")
	}
	return n, nil
}

func (s *Server) prepareEvents() operation[api.PrepareEvents, api.Prepared] {
	return operation[api.PrepareEvents, api.Prepared]{s: s, name: api.OpPrepare,
		plan: func(ctx context.Context, c call[api.PrepareEvents]) (fsm.Command, error) {
			rows, spans, err := s.rowsOf(ctx, c.body.Events)
			if err != nil {
				return nil, err
			}
			source := ""
			s.rep.View(func(st *fsm.State) {
				m, _ := st.Mapping(c.body.Events[0].Mapping)
				source = m.Source
			})
			if s.cfg.Relays != nil && !s.cfg.Relays.Serves(source) {
				return nil, problem(api.CodePlaceUnknown, "source "+source+" has no outbox account in this node's configuration: nobody would find out whether the transaction is over")
			}
			return fsm.PrepareEvents{Source: source, Events: rows, Spans: spans, TTLMs: c.body.TTLMs, Instance: c.body.Instance}, nil
		},
		answer: func(r fsm.Result) (api.Prepared, int) {
			return api.Prepared{ID: preparedID(r.Prepared.ID), ExpiresInMs: r.Prepared.TTLMs,
				Fence: api.Fence{Source: r.Prepared.Source, Table: fenceTable, ID: fsm.FenceID(s.rep.ClusterID(), r.Prepared.ID)}}, http.StatusOK
		},
	}
}

// endPrepared is submit or cancel.
func (s *Server) endPrepared(name, state string, command func(id uint64) fsm.Command) operation[nothing, api.PreparedEnd] {
	return operation[nothing, api.PreparedEnd]{s: s, name: name,
		plan: func(_ context.Context, c call[nothing]) (fsm.Command, error) {
			id, p := parsePrepared(c.subject)
			if p != nil {
				return nil, p
			}
			return command(id), nil
		},
		answer: func(r fsm.Result) (api.PreparedEnd, int) {
			if !r.Prepared.Ended {
				return api.PreparedEnd{State: api.PreparedOver}, http.StatusOK
			}
			return api.PreparedEnd{State: state, Events: tokensOf(r.Prepared.Tokens)}, http.StatusOK
		},
	}
}

func submitPrepared(id uint64) fsm.Command { return fsm.SubmitPrepared{ID: id} }
func cancelPrepared(id uint64) fsm.Command { return fsm.CancelPrepared{ID: id} }

func listPrepared(v view, _ *Listing, p *page) api.PreparedList {
	out := api.PreparedList{Prepared: []api.PreparedEvents{}}
	from, _ := strconv.ParseUint(p.after, 10, 64)
	v.AllPrepared(from, func(x fsm.Prepared) bool {
		take, further := p.row(tokenKey(x.ID), true)
		if take {
			out.Prepared = append(out.Prepared, api.PreparedEvents{ID: preparedID(x.ID), Source: x.Source, Events: len(x.Events), Instance: x.Instance,
				AgeMs: v.since(x.CreatedAt), ProbeIn: v.until(x.ProbeAt), Probes: x.Probes, Index: x.Index})
		}
		return further
	})
	out.Page = p.head()
	return out
}
