package main

import (
	"fmt"
	"math"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/reconcile"
	"github.com/quiescehq/quiesce/reconcile/bound"
	"github.com/quiescehq/quiesce/solo"
)

// boundConfidence is that of what a sample says about all rows, as the API has it.
const boundConfidence = 0.95

// onceReport is how the one pass stands. It has no id: nobody can ask for it again.
func onceReport(log *solo.Log, task *reconcile.Task, id uint64) passReport {
	var p fsm.Pass
	log.View(func(s *fsm.State) { p, _ = s.Pass(id) })
	c, k, now := p.Counts, p.Keys, log.Now()
	out := passReport{Differences: []api.Difference{}, Pass: api.Pass{Mapping: p.Mapping, Mode: string(p.Mode), State: string(p.State), Phase: api.PassPhaseRows, Reason: p.Reason,
		Extras: p.Extras, Sample: float64(p.SamplePPM) / 1_000_000, ConfirmDelayMs: p.ConfirmMs, Rate: p.RateMax, Estimate: p.Estimate, AgeMs: now - min(now, p.StartedAt),
		Counts:   api.PassCounts{Rows: c.Rows, Equal: c.Equal, FormatOnly: c.FormatOnly, Hot: c.Hot, Stale: c.Stale, Missing: c.Missing, WrongType: c.WrongType, NoTTL: c.NoTTL, Differences: c.Differences()},
		Expected: digestOf(p.Expected), Actual: digestOf(p.Actual)}}
	pass := &out.Pass
	if p.FinishedAt > 0 {
		pass.TookMs = p.FinishedAt - min(p.FinishedAt, p.StartedAt)
	}
	if p.From != "" || p.To != "" {
		pass.Range = &api.PassRange{From: keyPartsIf(p.From), To: keyPartsIf(p.To)}
	}
	sampled := p.SamplePPM%1_000_000 != 0
	if sampled {
		pass.Estimate = uint64(float64(p.Estimate) * pass.Sample)
		if looked := c.Rows - min(c.Rows, c.Hot); looked > 0 {
			pass.Bound = &api.PassBound{Confidence: boundConfidence, ShareAtMost: bound.Upper(c.Differences(), looked, boundConfidence)}
		}
	} else {
		pass.Sample = 0
	}
	if p.Extras {
		pass.Keys = &api.PassKeys{Looked: k.Looked, Matched: k.Matched, Foreign: k.Foreign, Hot: k.Hot, Extra: k.Extra}
	}
	if p.Phase == fsm.PassKeys {
		pass.Phase = api.PassPhaseKeys
	}
	switch {
	case p.State == fsm.PassDone, p.Phase == fsm.PassKeys:
		pass.Percent = 100
	case pass.Estimate > 0:
		pass.Percent = min(99.9, math.Floor(1_000*float64(c.Rows)/float64(pass.Estimate))/10)
	}
	for _, g := range task.Progress() {
		pass.Progress = &api.PassProgress{RowsPerSecond: g.RowsPerSecond, ETAMs: uint64(max(g.ETA, 0).Milliseconds()), Waiting: g.Waiting, Throttled: g.Throttled, Open: g.Open, ChunkRows: g.ChunkRows}
	}
	for _, d := range p.Samples {
		key, err := mapping.DecodeKey(d.PK)
		if err != nil {
			key = []string{d.PK}
		}
		out.Differences = append(out.Differences, api.Difference{PK: key, Key: d.Key, Class: d.Class, Expected: d.Expected, Actual: d.Actual})
	}
	return out
}

func digestOf(d fsm.PassSum) api.PassDigest {
	return api.PassDigest{Count: d.Count, Digest: fmt.Sprintf("%016x%016x", d.Hi, d.Lo)}
}
