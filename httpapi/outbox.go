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
			rows, spans, err := s.rowsOf(ctx, c.body.Events)
			if err != nil {
				return nil, err
			}
			return fsm.EnqueueEvents{Events: rows, Spans: spans}, nil
		},
		answer: func(r fsm.Result) (api.Enqueued, int) {
			return api.Enqueued{Events: tokensOf(r.Outbox.Tokens)}, http.StatusOK
		},
	}
}

func tokensOf(tokens []fsm.EventToken) []api.EventToken {
	out := make([]api.EventToken, 0, len(tokens))
	for _, t := range tokens {
		out = append(out, api.EventToken{Token: t.Token, Coalesced: t.Coalesced})
	}
	return out
}

// rowsOf names the rows of events. Spans stays empty while each event names one.
func (s *Server) rowsOf(ctx context.Context, events []api.RowEvent) (rows []fsm.RowRef, spans []byte, err error) {
	names := rowNames{s: s, known: map[string]fsm.Mapping{}}
	rows = make([]fsm.RowRef, 0, len(events))
	for i, e := range events {
		before := len(rows)
		if rows, err = names.add(ctx, rows, i, e); err != nil {
			return nil, nil, err
		}
		if n := len(rows) - before; n != 1 || spans != nil {
			for spans == nil || len(spans) < i {
				spans = append(spans, 1)
			}
			spans = append(spans[:i], byte(n))
		}
	}
	return rows, spans, nil
}

// rowNames turns the rows of one request into their canonical names. It looks up each mapping once.
type rowNames struct {
	s     *Server
	known map[string]fsm.Mapping
}

// add appends the rows that an event names. at is its place in the request.
func (n rowNames) add(ctx context.Context, rows []fsm.RowRef, at int, e api.RowEvent) ([]fsm.RowRef, error) {
	m, err := n.mapping(ctx, e.Mapping)
	if err != nil {
		return nil, err
	}
	keys, err := n.s.cfg.Mappings.Keys(ctx, m, RowKeys{PK: e.PK, Old: e.OldKey, New: e.NewKey})
	if err != nil {
		return nil, n.s.badKey(ctx, eventField(at), err)
	}
	for _, key := range keys {
		if len(key) > api.PKBytesMax {
			return nil, overLimit(api.CodePKInvalid, eventField(at)+": key too long", api.PKBytesMax)
		}
		rows = append(rows, fsm.RowRef{Mapping: e.Mapping, PK: key})
	}
	return rows, nil
}

func eventField(at int) string { return fmt.Sprintf("body.events[%d]", at) }

// ref names the one row of a key.
func (n rowNames) ref(ctx context.Context, field, mapping string, key []json.RawMessage) (fsm.RowRef, error) {
	m, err := n.mapping(ctx, mapping)
	if err != nil {
		return fsm.RowRef{}, err
	}
	canonical, err := n.s.cfg.Mappings.Key(ctx, m, key)
	switch {
	case err != nil:
		return fsm.RowRef{}, n.s.badKey(ctx, field, err)
	case canonical == "":
		return fsm.RowRef{}, n.s.badKey(ctx, field, &InvalidError{Faults: []api.Fault{{Field: "pk", Reason: "has a NULL, so it names nothing"}}})
	case len(canonical) > api.PKBytesMax:
		return fsm.RowRef{}, overLimit(api.CodePKInvalid, field+".pk: too long", api.PKBytesMax)
	}
	return fsm.RowRef{Mapping: mapping, PK: canonical}, nil
}

func (s *Server) badKey(ctx context.Context, field string, err error) *refusal {
	p := s.unmapped(ctx, err, api.CodePKInvalid)
	for i := range p.Faults {
		p.Faults[i].Field = field + "." + p.Faults[i].Field
	}
	return p
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
	key := b.PK
	if len(b.Key) > 0 {
		key = b.Key
	}
	ref, err := rowNames{s: s, known: map[string]fsm.Mapping{}}.ref(ctx, "body", b.Mapping, key)
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

func (s *Server) listEvents(v view, q *eventListing, p *page) api.Events {
	out := api.Events{Events: []api.Event{}}
	held := s.held(v)
	v.Events(rowAfter(p, q.Mapping), func(e fsm.Event) bool {
		wanted, later := rowWanted(q.Mapping, e.Mapping)
		take, further := p.row(rowKey(e.Mapping, e.PK), wanted)
		if take {
			out.Events = append(out.Events, s.eventOf(v, e, held(e.Mapping)))
		}
		return further && later
	})
	out.Page = p.head()
	return out
}

// eventOf asks the delivery, which must not look at the state while it answers: the state is being read here.
func (s *Server) eventOf(v view, e fsm.Event, blocked string) api.Event {
	out := api.Event{Mapping: e.Mapping, PK: parts(e.PK), State: api.EventPending, Blocked: blocked, Token: e.Token, AgeMs: v.since(e.EnqueuedAt),
		Attempts: e.Attempts, NextInMs: v.until(e.NextAt), Failure: e.Failure, Detail: e.Detail, Pass: e.Pass}
	if s.cfg.Outbox != nil && s.cfg.Outbox.Sent(fsm.RowRef{Mapping: e.Mapping, PK: e.PK}) {
		out.State, out.Blocked = api.EventSent, ""
	}
	return out
}

// held tells what holds up the events of mappings; each is found out once.
func (s *Server) held(v view) func(mapping string) string {
	known := map[string]string{}
	return func(mapping string) string {
		why, ok := known[mapping]
		if !ok {
			why = s.heldUp(v, mapping, s.delivery(mapping))
			known[mapping] = why
		}
		return why
	}
}

func (s *Server) delivery(mapping string) Delivery {
	if s.cfg.Outbox == nil {
		return Delivery{}
	}
	return s.cfg.Outbox.Delivery(mapping)
}

func (s *Server) heldUp(v view, mapping string, d Delivery) string {
	if m, ok := v.Mapping(mapping); ok && v.Paused(m) {
		return api.BlockedPaused
	}
	return d.Blocked
}

func listDead(v view, q *deadListing, p *page) api.DeadLetters {
	out := api.DeadLetters{Dead: []api.DeadLetter{}}
	v.DeadLetters(rowAfter(p, q.Mapping), func(d fsm.DeadLetter) bool {
		wanted, later := rowWanted(q.Mapping, d.Mapping)
		take, further := p.row(rowKey(d.Mapping, d.PK), wanted)
		if take {
			out.Dead = append(out.Dead, deadOf(v, d))
		}
		return further && later
	})
	out.Page = p.head()
	return out
}

func deadOf(v view, d fsm.DeadLetter) api.DeadLetter {
	return api.DeadLetter{Mapping: d.Mapping, PK: parts(d.PK), Token: d.Token, AgeMs: v.since(d.BuriedAt), Attempts: d.Attempts, Failure: d.Failure, Detail: d.Detail}
}

func (s *Server) outboxStats(ctx context.Context, in *Consistent) (*answer[api.OutboxStats], error) {
	if err := s.fresh(ctx, in.Consistency); err != nil {
		return nil, err
	}
	out := &answer[api.OutboxStats]{Status: http.StatusOK}
	s.view(func(v view) { out.Body = s.statsOf(v) })
	out.Index = out.Body.Index
	out.Body.Breakers, out.Body.Relays = s.breakers(), []api.Relay{}
	if s.cfg.Relays != nil {
		out.Body.Relays = s.cfg.Relays.Relays()
	}
	return out, nil
}

func (s *Server) breakers() []api.Breaker {
	if s.cfg.Outbox == nil {
		return []api.Breaker{}
	}
	return s.cfg.Outbox.Breakers()
}

func (s *Server) statsOf(v view) api.OutboxStats {
	out := api.OutboxStats{Index: v.Revision(), Pending: v.PendingCount(), Prepared: v.PreparedCount(), Dead: v.DeadCount(),
		Mappings: []api.MappingOutbox{}, Pauses: []api.OutboxPause{}}
	v.Mappings("", func(m fsm.Mapping) bool {
		d := s.delivery(m.Name)
		x := api.MappingOutbox{Mapping: m.Name, Pending: v.Pending(m.Name), Dead: v.Dead(m.Name), LagMs: lagOf(v, m.Name), Delivered: d.Delivered,
			Superseded: d.Superseded, Failed: d.Failed, Blocked: s.heldUp(v, m.Name, d), DeadBy: map[string]int{}}
		for _, c := range v.DeadBy(m.Name) {
			x.DeadBy[c.Class] = c.Count
		}
		if doubt, ok := v.DoubtOf(m.Name); ok {
			x.Doubt = doubtOf(v, doubt)
		}
		out.LagMs = max(out.LagMs, x.LagMs)
		out.Mappings = append(out.Mappings, x)
		return true
	})
	v.Pauses(func(p fsm.Pause) bool {
		out.Pauses = append(out.Pauses, api.OutboxPause{OutboxScope: scopeOf(p), Reason: p.Reason, SinceMs: v.since(p.At), Index: p.Index})
		return true
	})
	return out
}

func doubtOf(v view, d fsm.Doubt) *api.Doubt {
	out := &api.Doubt{SinceMs: v.since(d.Since), Cause: d.Cause, Pass: d.Pass}
	switch p, ok := v.Unfinished(d.Mapping); {
	case ok && p.ID == d.Pass:
		out.Held = p.State == fsm.PassHeld
	case ok:
		out.Behind = p.ID
	}
	return out
}

func scopeOf(p fsm.Pause) api.OutboxScope {
	var out api.OutboxScope
	switch p.Scope {
	case fsm.PauseAll:
		out.All = true
	case fsm.PauseMapping:
		out.Mapping = p.Name
	case fsm.PauseTarget:
		out.Target = p.Name
	case fsm.PauseSource:
		out.Source = p.Name
	}
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
