package httpapi

import (
	"context"
	"net/http"
	"strings"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

// What people steer deliveries with: pauses, replays, nudges.

func (s *Server) pauseOutbox() operation[api.PauseOutbox, nothing] {
	return operation[api.PauseOutbox, nothing]{s: s, name: api.OpPauseOutbox,
		plan: func(_ context.Context, c call[api.PauseOutbox]) (fsm.Command, error) {
			scope, name, p := oneScope(c.body.OutboxScope)
			if p == nil {
				p = checkReason(c.body.Reason)
			}
			if p != nil {
				return nil, p
			}
			return fsm.PauseOutbox{Scope: scope, Name: name, Reason: c.body.Reason, WallMs: wallMs()}, nil
		},
	}
}

func (s *Server) resumeOutbox() operation[api.OutboxScope, nothing] {
	return operation[api.OutboxScope, nothing]{s: s, name: api.OpResumeOutbox,
		plan: func(_ context.Context, c call[api.OutboxScope]) (fsm.Command, error) {
			scope, name, p := oneScope(*c.body)
			if p != nil {
				return nil, p
			}
			return fsm.ResumeOutbox{Scope: scope, Name: name, WallMs: wallMs()}, nil
		},
	}
}

// oneScope wants exactly one member: an empty body is a mistake, not everything.
func oneScope(sc api.OutboxScope) (scope fsm.PauseScope, name string, p *refusal) {
	named := 0
	for _, x := range []struct {
		scope fsm.PauseScope
		name  string
		given bool
	}{{fsm.PauseAll, "", sc.All}, {fsm.PauseMapping, sc.Mapping, sc.Mapping != ""}, {fsm.PauseTarget, sc.Target, sc.Target != ""},
		{fsm.PauseSource, sc.Source, sc.Source != ""}} {
		if x.given {
			scope, name = x.scope, x.name
			named++
		}
	}
	if named != 1 {
		return "", "", invalid("body", "must name exactly one of all, mapping, target and source")
	}
	if name != "" {
		return scope, name, checkSlug("body."+string(scope), name)
	}
	return scope, "", nil
}

// replayDead and discardDead go over the dead letters in several entries, each of which does what it can by itself.
func (s *Server) replayDead(ctx context.Context, in *unkeyed[api.ReplayDead]) (*answer[api.Replayed], error) {
	b := in.Body
	step := uint64(0)
	if b.Rate > 0 {
		step = 1_000_000 / b.Rate
	}
	return s.eachDead(ctx, b, func(rows []fsm.RowRef, done int) fsm.Command {
		return fsm.ReplayEvents{Rows: rows, DelayMs: uint64(done) * step / 1000, StepMicros: step, WallMs: wallMs()}
	})
}

func (s *Server) discardDead(ctx context.Context, in *unkeyed[api.ReplayDead]) (*answer[api.Replayed], error) {
	if in.Body.Rate != 0 {
		return nil, invalid("body.rate", "is for replays")
	}
	return s.eachDead(ctx, in.Body, func(rows []fsm.RowRef, _ int) fsm.Command {
		return fsm.DiscardEvents{Rows: rows, WallMs: wallMs()}
	})
}

func (s *Server) eachDead(ctx context.Context, b api.ReplayDead, command func(rows []fsm.RowRef, done int) fsm.Command) (*answer[api.Replayed], error) {
	if err := s.fresh(ctx, api.Linearizable); err != nil {
		return nil, err
	}
	wanted, err := s.deadWanted(ctx, b.Filter)
	if err != nil {
		return nil, err
	}
	out := &answer[api.Replayed]{Status: http.StatusOK}
	rows := s.findDead(wanted, &out.Body)
	out.Index = s.revision()
	if b.DryRun {
		return out, nil
	}
	for len(rows) > 0 {
		n := min(len(rows), fsm.ReplayBatchMax)
		r, err := s.propose(ctx, fsm.Op{Command: command(rows[:n], out.Body.Changed)})
		if err != nil {
			return nil, err
		}
		out.Body.Changed += int(r.Outbox.Settled)
		out.Index, rows = r.Index, rows[n:]
	}
	return out, nil
}

// deadFilter is a filter whose row has its canonical name.
type deadFilter struct {
	api.DeadFilter
	row string
}

func (f deadFilter) fits(d fsm.DeadLetter) bool {
	return (f.Mapping == "" || f.Mapping == d.Mapping) && (f.Failure == "" || f.Failure == d.Failure) && (f.row == "" || f.row == d.PK)
}

func (s *Server) deadWanted(ctx context.Context, f api.DeadFilter) (deadFilter, error) {
	switch {
	case !f.All && f.Mapping == "" && f.Failure == "":
		return deadFilter{}, invalid("body.filter", "is empty: name a mapping or a failure, or say all")
	case f.All && (f.Mapping != "" || f.Failure != "" || len(f.PK) > 0):
		return deadFilter{}, invalid("body.filter.all", "goes with no other condition")
	case len(f.PK) > 0 && f.Mapping == "":
		return deadFilter{}, invalid("body.filter.pk", "needs a mapping")
	}
	out := deadFilter{DeadFilter: f}
	if f.Mapping == "" {
		return out, nil
	}
	names := rowNames{s: s, known: map[string]fsm.Mapping{}}
	if _, err := names.mapping(ctx, f.Mapping); err != nil {
		return out, err
	}
	if len(f.PK) > 0 {
		ref, err := names.ref(ctx, "body.filter", f.Mapping, f.PK)
		if err != nil {
			return out, err
		}
		out.row = ref.PK
	}
	return out, nil
}

func (s *Server) findDead(wanted deadFilter, found *api.Replayed) []fsm.RowRef {
	var rows []fsm.RowRef
	s.view(func(v view) {
		v.DeadLetters(fsm.RowRef{Mapping: wanted.Mapping}, func(d fsm.DeadLetter) bool {
			if wanted.Mapping != "" && strings.Compare(d.Mapping, wanted.Mapping) > 0 {
				return false
			}
			if wanted.fits(d) {
				rows = append(rows, fsm.RowRef{Mapping: d.Mapping, PK: d.PK})
				if found.Sample == nil {
					sample := deadOf(v, d)
					found.Sample = &sample
				}
			}
			return true
		})
	})
	found.Matched = len(rows)
	return rows
}

func (s *Server) nudge(ctx context.Context, in *unkeyed[api.Nudge]) (*noContent, error) {
	if p := checkSlug("body.source", in.Body.Source); p != nil {
		return nil, p
	}
	if s.cfg.Relays == nil || !s.cfg.Relays.Nudge(in.Body.Source) {
		if err := s.fresh(ctx, api.Linearizable); err != nil {
			return nil, err // another node may have begun to lead
		}
		return nil, problem(api.CodePlaceUnknown, "no relay runs for a source "+in.Body.Source)
	}
	return &noContent{Index: s.revision()}, nil
}
