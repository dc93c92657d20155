package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/reconcile/bound"
)

// boundConfidence is that of what a sample says about all rows.
const boundConfidence = 0.95

// wholePPM is all rows.
const wholePPM = 1_000_000

func (s *Server) startPass() operation[api.StartPass, api.PassStarted] {
	return operation[api.StartPass, api.PassStarted]{s: s, name: api.OpStartPass,
		plan: func(ctx context.Context, c call[api.StartPass]) (fsm.Command, error) {
			options, err := s.passOptions(ctx, c.body.Mapping, &c.body.PassOptions)
			if err != nil {
				return nil, err
			}
			return fsm.StartPass{Mapping: c.body.Mapping, PassOptions: options}, nil
		},
		answer: func(r fsm.Result) (api.PassStarted, int) { return api.PassStarted{ID: r.Pass.ID}, http.StatusOK },
	}
}

// passOptions checks what is asked of a pass, and whether its mapping can give it.
func (s *Server) passOptions(ctx context.Context, mapping string, o *api.PassOptions) (fsm.PassOptions, error) {
	out, p := checkPass(o)
	if p != nil {
		return out, p
	}
	m, err := rowNames{s: s, known: map[string]fsm.Mapping{}}.mapping(ctx, mapping)
	if err != nil {
		return out, err
	}
	asked := PassAsked{Mode: string(out.Mode), Extras: out.Extras}
	if o.Range != nil {
		asked.From, asked.To = o.Range.From, o.Range.To
	}
	if out.From, out.To, err = s.cfg.Mappings.Pass(ctx, m, asked); err != nil {
		p := s.unmapped(ctx, err, api.CodeInvalid)
		for i := range p.Faults {
			p.Faults[i].Field = "body." + p.Faults[i].Field
		}
		return out, p
	}
	switch {
	case out.From != "" && out.From == out.To:
		return out, invalid("body.range", "is empty: to is not looked at any more")
	case len(out.From) > api.PKBytesMax, len(out.To) > api.PKBytesMax:
		return out, overLimit(api.CodeInvalid, "body.range: key too long", api.PKBytesMax)
	}
	return out, nil
}

// checkPass finds what is wrong with options whatever the mapping is. What is not said gets its default.
func checkPass(o *api.PassOptions) (fsm.PassOptions, *refusal) {
	out := fsm.PassOptions{Mode: fsm.PassDryRun, Cap: api.PassCapDefault, CapPercent: api.PassCapPercentDefault, ConfirmMs: api.PassConfirmDefaultMs, Extras: o.Extras,
		Fill: o.FillMissing, RateMax: o.Rate}
	if o.Mode != "" {
		out.Mode = fsm.PassMode(o.Mode)
	}
	if o.ConfirmDelayMs != 0 {
		out.ConfirmMs = o.ConfirmDelayMs
	}
	if o.Cap != nil {
		out.Cap, out.CapPercent = *o.Cap, 0
	}
	if o.CapPercent != nil {
		out.CapPercent = *o.CapPercent
	}
	out.SamplePPM = uint64(math.Round(o.Sample * wholePPM))
	sampled := out.SamplePPM != 0 && out.SamplePPM != wholePPM
	switch {
	case o.Sample != 0 && out.SamplePPM == 0:
		return out, invalid("body.sample", "must be a millionth at least")
	case o.FillMissing && out.Mode != fsm.PassRewrite:
		return out, invalid("body.fill_missing", "needs mode rewrite")
	case o.Range != nil && len(o.Range.From) == 0 && len(o.Range.To) == 0:
		return out, invalid("body.range", "needs from, to or both")
	case o.Extras && (o.Range != nil || sampled):
		return out, invalid("body.extras", "goes with neither range nor sample: a key whose row was left out would look like one without a row")
	}
	return out, nil
}

// passSays is the shape of what is wished of a pass.
func (s *Server) passSays(name string, command func(id uint64) fsm.Command) operation[nothing, nothing] {
	return operation[nothing, nothing]{s: s, name: name,
		plan: func(_ context.Context, c call[nothing]) (fsm.Command, error) {
			id, p := number(c.subject)
			if p != nil {
				return nil, p
			}
			return command(id), nil
		},
	}
}

func pausePass(id uint64) fsm.Command  { return fsm.PausePass{ID: id} }
func resumePass(id uint64) fsm.Command { return fsm.ResumePass{ID: id} }
func cancelPass(id uint64) fsm.Command { return fsm.CancelPass{ID: id} }

func (s *Server) approvePass() operation[api.ApprovePass, nothing] {
	return operation[api.ApprovePass, nothing]{s: s, name: api.OpApprovePass,
		plan: func(_ context.Context, c call[api.ApprovePass]) (fsm.Command, error) {
			id, p := number(c.subject)
			if p != nil {
				return nil, p
			}
			return fsm.ApprovePass{ID: id, Limit: c.body.Limit, WallMs: wallMs()}, nil
		},
	}
}

type passListing struct {
	Listing
	Mapping string `query:"mapping" maxLength:"63"`
	State   string `query:"state" enum:"running,paused,held,done,failed,cancelled"`
}

// Passes, plans and cleanups are paged by id. Their keys have a fixed width, so that the order of texts is the order of numbers.
func tokenKey(id uint64) string { return fmt.Sprintf("%020d", id) }

func (s *Server) listPasses(v view, q *passListing, p *page) api.Passes {
	out := api.Passes{Passes: []api.Pass{}}
	from, _ := strconv.ParseUint(p.after, 10, 64)
	under := s.passesUnder()
	v.Passes(from, func(x fsm.Pass) bool {
		take, further := p.row(tokenKey(x.ID), (q.Mapping == "" || q.Mapping == x.Mapping) && (q.State == "" || q.State == string(x.State)))
		if take {
			out.Passes = append(out.Passes, passOf(v, x, under))
		}
		return further
	})
	out.Page = p.head()
	return out
}

func (s *Server) findPass(v view, id string) (api.Pass, uint64, fsm.Code) {
	x, ok := passByID(v, id)
	if !ok {
		return api.Pass{}, 0, fsm.CodePassNotFound
	}
	return passOf(v, x, s.passesUnder()), 0, ""
}

func passByID(v view, id string) (fsm.Pass, bool) {
	n, err := strconv.ParseUint(id, 10, 64)
	if err != nil {
		return fsm.Pass{}, false
	}
	return v.Pass(n)
}

// passesUnder are the passes at work on this node.
func (s *Server) passesUnder() map[uint64]PassProgress {
	if s.cfg.Passes == nil {
		return nil
	}
	under := map[uint64]PassProgress{}
	for _, p := range s.cfg.Passes.Progress() {
		under[p.Pass] = p
	}
	return under
}

func passOf(v view, x fsm.Pass, under map[uint64]PassProgress) api.Pass {
	c := x.Counts
	out := api.Pass{ID: x.ID, Mapping: x.Mapping, Revision: x.Revision, Mode: string(x.Mode), State: string(x.State), Phase: api.PassPhaseRows, Hold: string(x.Hold), Reason: x.Reason,
		Range: rangeOf(x.PassOptions), Extras: x.Extras, FillMissing: x.Fill, Cap: x.Cap, CapPercent: x.CapPercent, Allowance: x.Allowance(), Removals: x.Removals,
		ConfirmDelayMs: x.ConfirmMs, Rate: x.RateMax, Cursor: x.Cursor, Filled: x.Filled, Expected: sumOf(x.Expected), Actual: sumOf(x.Actual), AgeMs: v.since(x.StartedAt), Index: x.Index,
		Counts: api.PassCounts{Rows: c.Rows, Equal: c.Equal, FormatOnly: c.FormatOnly, Hot: c.Hot, Stale: c.Stale, Missing: c.Missing,
			WrongType: c.WrongType, NoTTL: c.NoTTL, Repaired: c.Repaired, Differences: c.Differences()}}
	if sampled(x.PassOptions) {
		out.Sample = float64(x.SamplePPM) / wholePPM
		if looked := c.Rows - min(c.Rows, c.Hot); looked > 0 {
			out.Bound = &api.PassBound{Confidence: boundConfidence, ShareAtMost: bound.Upper(c.Differences(), looked, boundConfidence)}
		}

	}
	if x.Phase == fsm.PassKeys {
		out.Phase = api.PassPhaseKeys
	}
	if k := x.Keys; x.Extras {
		out.Keys = &api.PassKeys{Looked: k.Looked, Matched: k.Matched, Foreign: k.Foreign, Hot: k.Hot, Extra: k.Extra, Removed: k.Removed}
	}
	out.Cause = x.Cause
	if x.Slot != 0 {
		out.Slot = time.UnixMilli(int64(x.Slot)).UTC().Format(time.RFC3339)
	}
	out.TookMs = minus(x.FinishedAt, x.StartedAt)
	out.Estimate, out.Percent = expectedRows(x)
	if p, ok := under[x.ID]; ok && x.State == fsm.PassRunning {
		out.Progress = &api.PassProgress{RowsPerSecond: p.RowsPerSecond, ETAMs: uint64(max(p.ETA, 0).Milliseconds()), Waiting: p.Waiting, Throttled: p.Throttled, Open: p.Open, ChunkRows: p.ChunkRows}
	}
	return out
}

func sampled(o fsm.PassOptions) bool { return o.SamplePPM%wholePPM != 0 }

// expectedRows tells how many rows a pass has to look at, as far as that was known, and the share of them that it has looked at. Of a pass that is under way that is never all.
func expectedRows(x fsm.Pass) (rows uint64, percent float64) {
	rows = x.Estimate
	switch {
	case x.State == fsm.PassDone, x.Phase == fsm.PassKeys:
		return rows, 100
	case rows == 0:
		return 0, 0
	}
	return rows, min(99.9, math.Floor(1_000*float64(x.Counts.Rows)/float64(rows))/10)
}

func rangeOf(o fsm.PassOptions) *api.PassRange {
	if o.From == "" && o.To == "" {
		return nil
	}
	return &api.PassRange{From: rawParts(o.From), To: rawParts(o.To)}
}

// rawParts gives a canonical key as it was sent; nil for none.
func rawParts(pk string) []json.RawMessage {
	if pk == "" {
		return nil
	}
	var out []json.RawMessage
	for _, part := range parts(pk) {
		out = append(out, raw(part))
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
	out := api.Differences{Index: v.Revision(), Differences: []api.Difference{}, Total: x.Counts.Differences() + x.Keys.Extra}
	for _, d := range x.Samples {
		out.Differences = append(out.Differences, api.Difference{PK: parts(d.PK), Key: d.Key, Class: d.Class, Expected: d.Expected, Actual: d.Actual})
	}
	return out, 0, ""
}
