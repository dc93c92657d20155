package httpapi

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strconv"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

func (s *Server) startPass() operation[api.StartPass, api.PassStarted] {
	return operation[api.StartPass, api.PassStarted]{s: s, name: api.OpStartPass,
		plan: func(_ context.Context, c call[api.StartPass]) (fsm.Command, error) {
			return fsm.StartPass{Mapping: c.body.Mapping, PassOptions: fsm.PassOptions{Mode: fsm.PassMode(cmp.Or(c.body.Mode, api.PassDryRun)),
				Cap: cmp.Or(c.body.Cap, api.PassCapDefault), ConfirmMs: cmp.Or(c.body.ConfirmDelayMs, api.PassConfirmDefaultMs)}}, nil
		},
		answer: func(r fsm.Result) (api.PassStarted, int) { return api.PassStarted{ID: r.Pass.ID}, http.StatusOK },
	}
}

func (s *Server) cancelPass() operation[nothing, nothing] {
	return operation[nothing, nothing]{s: s, name: api.OpCancelPass,
		plan: func(_ context.Context, c call[nothing]) (fsm.Command, error) {
			id, err := strconv.ParseUint(c.subject, 10, 64)
			if err != nil {
				return nil, invalid("path.id", "must be a number")
			}
			return fsm.CancelPass{ID: id}, nil
		},
	}
}

type passListing struct {
	Listing
	Mapping string `query:"mapping" maxLength:"63"`
}

// Passes, plans and cleanups are paged by id. Their keys have a fixed width, so that the order of texts is the order of numbers.
func tokenKey(id uint64) string { return fmt.Sprintf("%020d", id) }

func listPasses(v view, q *passListing, p *page) api.Passes {
	out := api.Passes{Passes: []api.Pass{}}
	from, _ := strconv.ParseUint(p.after, 10, 64)
	v.Passes(from, func(x fsm.Pass) bool {
		take, further := p.row(tokenKey(x.ID), q.Mapping == "" || q.Mapping == x.Mapping)
		if take {
			out.Passes = append(out.Passes, passOf(v, x))
		}
		return further
	})
	out.Page = p.head()
	return out
}

func findPass(v view, id string) (api.Pass, uint64, fsm.Code) {
	x, ok := passByID(v, id)
	if !ok {
		return api.Pass{}, 0, fsm.CodePassNotFound
	}
	return passOf(v, x), 0, ""
}

func passByID(v view, id string) (fsm.Pass, bool) {
	n, err := strconv.ParseUint(id, 10, 64)
	if err != nil {
		return fsm.Pass{}, false
	}
	return v.Pass(n)
}

func passOf(v view, x fsm.Pass) api.Pass {
	c := x.Counts
	out := api.Pass{ID: x.ID, Mapping: x.Mapping, Revision: x.Revision, Mode: string(x.Mode), State: string(x.State), Cap: x.Cap,
		ConfirmDelayMs: x.ConfirmMs, Cursor: x.Cursor, Expected: sumOf(x.Expected), Actual: sumOf(x.Actual), AgeMs: v.since(x.StartedAt),
		Reason: x.Reason, Index: x.Index,
		Counts: api.PassCounts{Rows: c.Rows, Equal: c.Equal, FormatOnly: c.FormatOnly, Hot: c.Hot, Stale: c.Stale, Missing: c.Missing,
			WrongType: c.WrongType, NoTTL: c.NoTTL, Repaired: c.Repaired, Differences: c.Differences()}}
	if x.State != fsm.PassRunning {
		out.TookMs = minus(x.FinishedAt, x.StartedAt)
	}
	return out
}

func sumOf(d fsm.PassSum) api.PassDigest {
	return api.PassDigest{Count: d.Count, Digest: fmt.Sprintf("%016x%016x", d.Hi, d.Lo)}
}

func findDifferences(v view, id string) (api.Differences, uint64, fsm.Code) {
	x, ok := passByID(v, id)
	if !ok {
		return api.Differences{}, 0, fsm.CodePassNotFound
	}
	out := api.Differences{Index: v.Revision(), Differences: []api.Difference{}, Total: x.Counts.Differences()}
	for _, d := range x.Samples {
		out.Differences = append(out.Differences, api.Difference{PK: parts(d.PK), Key: d.Key, Class: d.Class, Expected: d.Expected, Actual: d.Actual})
	}
	return out, 0, ""
}
