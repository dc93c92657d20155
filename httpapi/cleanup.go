package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

func (s *Server) newCleanup() operation[api.NewCleanup, api.CleanupID] {
	return operation[api.NewCleanup, api.CleanupID]{s: s, name: api.OpNewCleanup,
		plan: func(ctx context.Context, c call[api.NewCleanup]) (fsm.Command, error) {
			b := c.body
			if p := checkPatterns("body.patterns", b.Patterns); p != nil {
				return nil, p
			}
			if p := checkReason(b.Reason); p != nil {
				return nil, p
			}
			if err := s.knownTarget(ctx, b.Target); err != nil {
				return nil, err
			}
			return fsm.NewCleanup{Target: b.Target, Patterns: b.Patterns, DelayMs: b.DelayMs, DryRun: b.DryRun, Reason: b.Reason, WallMs: wallMs()}, nil
		},
		answer: func(r fsm.Result) (api.CleanupID, int) { return api.CleanupID{ID: r.Cleanup.ID}, http.StatusOK },
	}
}

// checkPatterns wants a literal beginning: a bare * would empty the cache of everybody.
func checkPatterns(field string, patterns []string) *refusal {
	for _, p := range patterns {
		if len(p) > api.PatternBytesMax {
			return invalid(field, "at most 256 bytes each")
		}
		if i := strings.IndexAny(p, `*?[\`); i >= 0 && i < api.PatternLiteralMin || len(p) < api.PatternLiteralMin {
			return invalid(field, strconv.Quote(p)+" needs at least 2 literal bytes before the first of * ? [ \\")
		}
	}
	return nil
}

// knownTarget refuses a target that no node has in its file.
func (s *Server) knownTarget(ctx context.Context, name string) error {
	known := false
	look := func() {
		s.view(func(v view) {
			v.Nodes(func(n fsm.Node) bool {
				for _, t := range n.Targets {
					known = known || t.Name == name
				}
				return !known
			})
		})
	}
	if look(); known {
		return nil
	}
	if err := s.fresh(ctx, api.Linearizable); err != nil {
		return err
	}
	if look(); !known {
		return problem(api.CodePlaceUnknown, "no node has a target "+name+" in its configuration")
	}
	return nil
}

func (s *Server) cancelCleanup() operation[nothing, nothing] {
	return operation[nothing, nothing]{s: s, name: api.OpCancelCleanup,
		plan: func(_ context.Context, c call[nothing]) (fsm.Command, error) {
			id, p := number(c.subject)
			if p != nil {
				return nil, p
			}
			return fsm.CancelCleanup{ID: id, WallMs: wallMs()}, nil
		},
	}
}

func listCleanups(v view, _ *Listing, p *page) api.Cleanups {
	out := api.Cleanups{Cleanups: []api.Cleanup{}}
	from, _ := strconv.ParseUint(p.after, 10, 64)
	v.Cleanups(from, func(x fsm.Cleanup) bool {
		take, further := p.row(tokenKey(x.ID), true)
		if take {
			out.Cleanups = append(out.Cleanups, cleanupOf(v, x))
		}
		return further
	})
	out.Page = p.head()
	return out
}

func findCleanup(v view, id string) (api.Cleanup, uint64, fsm.Code) {
	n, p := number(id)
	x, ok := v.Cleanup(n)
	if p != nil || !ok {
		return api.Cleanup{}, 0, fsm.CodeCleanupNotFound
	}
	return cleanupOf(v, x), 0, ""
}

func cleanupOf(v view, x fsm.Cleanup) api.Cleanup {
	out := api.Cleanup{ID: x.ID, Target: x.Target, Patterns: x.Patterns, Service: x.Service, DryRun: x.DryRun, Reason: x.Reason, State: string(x.State), Why: x.Why,
		Pattern: x.Pattern, Scanned: x.Scanned, Matched: x.Matched, Removed: x.Removed, Samples: x.Samples, AgeMs: v.since(x.CreatedAt), Index: x.Index}
	if x.State == fsm.CleanupWaiting {
		out.DueInMs = v.until(x.DueAt)
	}
	return out
}

// Transactions.

func (s *Server) transactions(ctx context.Context, in *Consistent) (*answer[api.Transactions], error) {
	if err := s.fresh(ctx, in.Consistency); err != nil {
		return nil, err
	}
	out := &answer[api.Transactions]{Status: http.StatusOK, Index: s.revision()}
	if s.cfg.Transactions != nil {
		out.Body = s.cfg.Transactions.Transactions(ctx)
	}
	if out.Body.Transactions == nil {
		out.Body.Transactions = []api.Transaction{}
	}
	if out.Body.Sources == nil {
		out.Body.Sources = []api.TransactionSource{}
	}
	return out, nil
}

func (s *Server) killTransaction(ctx context.Context, in *unkeyed[api.KillTransaction]) (*answer[api.KillVerdict], error) {
	id := exchangeOf(ctx).gin.Param("id")
	if len(id) > api.NameBytesMax {
		return nil, invalid("path.id", "too long")
	}
	if p := checkReason(in.Body.Reason); p != nil {
		return nil, p
	}
	if err := s.fresh(ctx, api.Linearizable); err != nil {
		return nil, err
	}
	err := ErrTransactionNotFound
	out := &answer[api.KillVerdict]{Status: http.StatusOK, Index: s.revision()}
	if s.cfg.Transactions != nil {
		out.Body, err = s.cfg.Transactions.KillTransaction(ctx, id, in.Body.Reason)
	}
	switch {
	case err == nil:
		return out, nil
	case errors.Is(err, ErrTransactionNotFound):
		return nil, problem(api.CodeTrxNotFound, "none that is long has this id: it may be over")
	case errors.Is(err, ErrSourceUnreachable):
		return nil, problem(api.CodeSourceUnreachable, err.Error())
	}
	return nil, s.bug(ctx, err)
}
