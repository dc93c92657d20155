package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

// lagLooked is how many of a mapping's events, those due first, are looked at for the oldest. Events that were never tried are due in the
// order of their age, so only a backlog that has failed as a whole can hide an older one.
const lagLooked = 100

func (s *Server) enqueueEvents() operation[api.EnqueueEvents, api.Enqueued] {
	return operation[api.EnqueueEvents, api.Enqueued]{s: s, name: api.OpEnqueue,
		plan: func(ctx context.Context, c call[api.EnqueueEvents]) (fsm.Command, error) {
			rows := rowNames{s: s, known: map[string]fsm.Mapping{}}
			out := fsm.EnqueueEvents{Events: make([]fsm.RowRef, 0, len(c.body.Events))}
			for i, e := range c.body.Events {
				ref, err := rows.ref(ctx, fmt.Sprintf("body.events[%d]", i), e.Mapping, e.PK)
				if err != nil {
					return nil, err
				}
				out.Events = append(out.Events, ref)
			}
			return out, nil
		},
		answer: func(r fsm.Result) (api.Enqueued, int) {
			out := api.Enqueued{Events: make([]api.EventToken, 0, len(r.Outbox.Tokens))}
			for _, t := range r.Outbox.Tokens {
				out.Events = append(out.Events, api.EventToken{Token: t.Token, Coalesced: t.Coalesced})
			}
			return out, http.StatusOK
		},
	}
}

// rowNames turns the rows of one request into their canonical names. It looks up each mapping once.
type rowNames struct {
	s     *Server
	known map[string]fsm.Mapping
}

func (n rowNames) ref(ctx context.Context, field, mapping string, pk []json.RawMessage) (fsm.RowRef, error) {
	m, err := n.mapping(ctx, mapping)
	if err != nil {
		return fsm.RowRef{}, err
	}
	canonical, err := n.s.cfg.Mappings.PK(ctx, m, pk)
	if err != nil {
		p := n.s.unmapped(ctx, err, api.CodePKInvalid)
		for i := range p.Faults {
			p.Faults[i].Field = field + "." + p.Faults[i].Field
		}
		return fsm.RowRef{}, p
	}
	if len(canonical) > api.PKBytesMax {
		return fsm.RowRef{}, overLimit(api.CodePKInvalid, field+".pk: too long", api.PKBytesMax)
	}
	return fsm.RowRef{Mapping: mapping, PK: canonical}, nil
}

func (n rowNames) mapping(ctx context.Context, name string) (fsm.Mapping, error) {
	if m, ok := n.known[name]; ok {
		return m, nil
	}
	m, found := n.look(name)
	if !found {
		// This node may lead without having seen everything yet.
		if err := n.s.fresh(ctx, api.Linearizable); err != nil {
			return m, err
		}
		if m, found = n.look(name); !found {
			return m, refusedBy(fsm.Result{Code: fsm.CodeMappingNotFound, Detail: "no such mapping: " + name})
		}
	}
	n.known[name] = m
	return m, nil
}

func (n rowNames) look(name string) (m fsm.Mapping, found bool) {
	n.s.rep.View(func(st *fsm.State) { m, found = st.Mapping(name) })
	return m, found
}

// waitEvent parks until a row's event is delivered or dead.
func (s *Server) waitEvent(ctx context.Context, in *unkeyed[api.WaitEvent]) (*answer[api.EventState], error) {
	b := &in.Body
	if err := s.fresh(ctx, api.Linearizable); err != nil {
		return nil, err
	}
	ref, err := rowNames{s: s, known: map[string]fsm.Mapping{}}.ref(ctx, "body", b.Mapping, b.PK)
	if err != nil {
		return nil, err
	}
	w := s.rep.Watch("events", ref.Mapping+"\x00"+ref.PK)
	defer w.Close()
	patience := time.NewTimer(time.Duration(b.WaitMs) * time.Millisecond)
	defer patience.Stop()
	for {
		out := &answer[api.EventState]{Status: http.StatusOK}
		s.view(func(v view) {
			out.Body.State, out.Index = eventState(v, ref, b.Token), v.Revision()
		})
		if out.Body.State != api.EventPending {
			return out, nil
		}
		select {
		case <-w.Wake():
			continue
		case <-patience.C:
		case <-s.draining:
		case <-ctx.Done():
		}
		return out, nil
	}
}

// eventState tells of a token what the state still knows: done events leave it, so a token that was given and is nowhere is done.
func eventState(v view, ref fsm.RowRef, token uint64) string {
	if token > v.Token() {
		return api.EventUnknown
	}
	if _, pending := v.Event(ref); pending {
		return api.EventPending
	}
	if d, dead := v.DeadLetter(ref); dead && d.Token >= token {
		return api.EventDead
	}
	return api.EventDone
}

type eventListing struct {
	Listing
	Mapping string `query:"mapping" maxLength:"63"`
	State   string `query:"state" enum:"pending" default:"pending"`
}

type deadListing struct {
	Listing
	Mapping string `query:"mapping" maxLength:"63"`
}

// Events and dead letters are paged by mapping and row, in the order in which the state has them.
func rowKey(mapping, pk string) string { return mapping + "\x00" + pk }

func rowAfter(p *page, mapping string) fsm.RowRef {
	name, pk, _ := strings.Cut(p.after, "\x00")
	if name < mapping {
		name, pk = mapping, ""
	}
	return fsm.RowRef{Mapping: name, PK: pk}
}

// parts shows a canonical key as the array that it is the text of.
func parts(pk string) []string {
	var out []string
	if err := json.Unmarshal([]byte(pk), &out); err != nil {
		return []string{pk}
	}
	return out
}

// rowWanted tells whether a row passes the filter, and whether later ones can.
func rowWanted(filter, mapping string) (wanted, later bool) {
	return filter == "" || filter == mapping, filter == "" || mapping <= filter
}

func listEvents(v view, q *eventListing, p *page) api.Events {
	out := api.Events{Events: []api.Event{}}
	v.Events(rowAfter(p, q.Mapping), func(e fsm.Event) bool {
		wanted, later := rowWanted(q.Mapping, e.Mapping)
		take, further := p.row(rowKey(e.Mapping, e.PK), wanted)
		if take {
			out.Events = append(out.Events, api.Event{Mapping: e.Mapping, PK: parts(e.PK), Token: e.Token, AgeMs: v.since(e.EnqueuedAt),
				Attempts: e.Attempts, NextInMs: v.until(e.NextAt), Failure: e.Failure, Detail: e.Detail, Pass: e.Pass})
		}
		return further && later
	})
	out.Page = p.head()
	return out
}

func listDead(v view, q *deadListing, p *page) api.DeadLetters {
	out := api.DeadLetters{Dead: []api.DeadLetter{}}
	v.DeadLetters(rowAfter(p, q.Mapping), func(d fsm.DeadLetter) bool {
		wanted, later := rowWanted(q.Mapping, d.Mapping)
		take, further := p.row(rowKey(d.Mapping, d.PK), wanted)
		if take {
			out.Dead = append(out.Dead, api.DeadLetter{Mapping: d.Mapping, PK: parts(d.PK), Token: d.Token, AgeMs: v.since(d.BuriedAt),
				Attempts: d.Attempts, Failure: d.Failure, Detail: d.Detail})
		}
		return further && later
	})
	out.Page = p.head()
	return out
}

func (s *Server) outboxStats(ctx context.Context, in *Consistent) (*answer[api.OutboxStats], error) {
	if err := s.fresh(ctx, in.Consistency); err != nil {
		return nil, err
	}
	out := &answer[api.OutboxStats]{Status: http.StatusOK}
	s.view(func(v view) { out.Body = statsOf(v) })
	out.Index = out.Body.Index
	out.Body.Breakers = s.breakers()
	return out, nil
}

func statsOf(v view) api.OutboxStats {
	out := api.OutboxStats{Index: v.Revision(), Pending: v.PendingCount(), Dead: v.DeadCount(), Mappings: []api.MappingOutbox{}}
	v.Mappings("", func(m fsm.Mapping) bool {
		lag := lagOf(v, m.Name)
		out.LagMs = max(out.LagMs, lag)
		out.Mappings = append(out.Mappings, api.MappingOutbox{Mapping: m.Name, Pending: v.Pending(m.Name), Dead: v.Dead(m.Name), LagMs: lag})
		return true
	})
	return out
}

func lagOf(v view, mapping string) uint64 {
	lag, looked := uint64(0), 0
	v.DueEvents(mapping, ^uint64(0), func(e fsm.Event) bool {
		lag = max(lag, v.since(e.EnqueuedAt))
		looked++
		return looked < lagLooked
	})
	return lag
}

func (s *Server) breakers() []api.Breaker {
	if s.cfg.Outbox == nil {
		return []api.Breaker{}
	}
	return s.cfg.Outbox.Breakers()
}
