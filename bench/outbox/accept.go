package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"sync/atomic"

	"github.com/quiescehq/quiesce/bench/load"
	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mapping"
)

// acceptMapping reads no rows, so that what was accepted is soon delivered between two cases.
const acceptMapping = "gone"

// acceptCase is how many events a call carries, and who calls.
type acceptCase struct {
	events int
	part   int // of the callers
}

var acceptCases = []acceptCase{{1, 1}, {100, 4}, {1_000, 8}}

// accepting are the rounds of one case. Rates are events a second.
type accepting struct{ http, sdk, entry, joined []load.Sample }

// accept measures tier 1 with the delivery paused, beside raft alone with entries of the same bytes.
func (b *bench) accept(ctx context.Context, w *world) error {
	if err := w.fill(ctx, 1); err != nil {
		return err
	}
	if err := w.declare(ctx, acceptMapping, itemsSpec(acceptMapping, "", mapping.Invalidate)); err != nil {
		return err
	}
	bare, err := startBare(ctx, filepath.Join(b.dir, "bare"))
	if err != nil {
		return err
	}
	w.beside = bare
	results := make([]accepting, len(acceptCases))
	for range b.rounds {
		for i, c := range acceptCases {
			if err := b.acceptRound(ctx, w, bare, c, &results[i]); err != nil {
				return fmt.Errorf("%d a call: %w", c.events, err)
			}
		}
	}
	b.acceptFigures(results)
	return nil
}

func (b *bench) acceptRound(ctx context.Context, w *world, bare *bareCluster, c acceptCase, out *accepting) error {
	loop := load.Loop{Workers: b.callers / c.part, Warm: b.measured / 4, Measure: b.measured}
	bytes := entryBytes(c.events)
	one, err := bare.run(ctx, bareRun{Loop: loop, Bytes: bytes})
	if err != nil {
		return fmt.Errorf("bare: %w", err)
	}
	out.entry = append(out.entry, times(one, c.events))
	http, err := b.accepted(ctx, w, fmt.Sprintf("accept-%d", c.events), func() (load.Sample, error) { return w.acceptWire(ctx, loop, c.events) })
	if err != nil {
		return err
	}
	out.http = append(out.http, times(http, c.events))
	joined, err := bare.run(ctx, bareRun{Loop: loop, Bytes: bytes, Join: true})
	if err != nil {
		return fmt.Errorf("bare, joined: %w", err)
	}
	out.joined = append(out.joined, times(joined, c.events))
	sdk, err := b.accepted(ctx, w, fmt.Sprintf("accept-sdk-%d", c.events), func() (load.Sample, error) { return w.acceptClient(ctx, loop, c.events) })
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	out.sdk = append(out.sdk, times(sdk, c.events))
	b.say("  %d a call, %d callers: HTTP %.0f, client %.0f, bare entries of %d bytes %.0f, joined %.0f events/s", c.events, loop.Workers,
		last(out.http).Rate, last(out.sdk).Rate, bytes, last(out.entry).Rate, last(out.joined).Rate)
	return nil
}

// accepted runs a case with the delivery paused, and lets it deliver afterwards what came.
func (b *bench) accepted(ctx context.Context, w *world, name string, run func() (load.Sample, error)) (load.Sample, error) {
	if err := w.pause(ctx, acceptMapping); err != nil {
		return load.Sample{}, err
	}
	stop, err := b.profile(ctx, w, name)
	if err != nil {
		return load.Sample{}, err
	}
	s, err := run()
	return s, errors.Join(err, stop(ctx), w.resume(ctx, acceptMapping), w.drained(ctx))
}

// acceptWire sends bytes to the leader, over a kept connection for each worker.
func (w *world) acceptWire(ctx context.Context, loop load.Loop, events int) (load.Sample, error) {
	addr, err := w.leaderAddr(ctx)
	if err != nil {
		return load.Sample{}, err
	}
	senders := make([]*sender, loop.Workers)
	for i := range senders {
		if senders[i], err = w.newSender(ctx, addr); err != nil {
			return load.Sample{}, err
		}
		defer func() { _ = senders[i].conn.Close() }()
	}
	var ids rowNumbers
	return load.Run(ctx, loop, func(_ context.Context, worker int) error {
		return senders[worker].enqueue(acceptMapping, ids.take(events), events)
	})
}

// acceptClient calls Enqueue of the client library: calls of one process travel together.
func (w *world) acceptClient(ctx context.Context, loop load.Loop, events int) (load.Sample, error) {
	var ids rowNumbers
	return load.Run(ctx, loop, func(ctx context.Context, _ int) error {
		rows := make([]any, events)
		first := ids.take(events)
		for i := range rows {
			rows[i] = first + i
		}
		_, err := w.client.Enqueue(ctx, acceptMapping, rows...)
		return err
	})
}

// rowNumbers hands out rows that are pending only once, until there are as many as may be pending; then they begin anew.
type rowNumbers struct{ next atomic.Int64 }

func (r *rowNumbers) take(n int) int {
	const highest = fsm.PendingMax - 100*eventsPerCall
	return int(r.next.Add(int64(n))-int64(n))%highest + 1
}

// entryBytes is the size of the log entry that a call of so many events becomes.
func entryBytes(events int) int {
	command := fsm.EnqueueEvents{}
	for i := range events {
		command.Events = append(command.Events, fsm.RowRef{Mapping: acceptMapping, PK: mapping.EncodeKey([]string{fmt.Sprint(100_000 + i)})})
	}
	const client, sequence = "bench-10", 1_000
	op := fsm.Op{Command: command, Key: &fsm.Key{Scope: "anonymous", Client: client, Seq: sequence, Acked: sequence, Fingerprint: 1 << 63}}
	return len(fsm.JoinEntry(1_000_000, []fsm.EncodedOp{op.Encode()}))
}

// times makes a rate of events from one of calls.
func times(s load.Sample, events int) load.Sample {
	s.Rate *= float64(events)
	return s
}

func last(s []load.Sample) load.Sample { return s[len(s)-1] }

func (b *bench) acceptFigures(results []accepting) {
	b.text("accepted, events/s\tcallers\tHTTP\tclient\tbare entries\tbare, joined\tHTTP / bare\tclient / bare")
	worst := math.Inf(1)
	for i, c := range acceptCases {
		r := results[i]
		rate := func(s []load.Sample) float64 { return load.Median(load.Of(s, load.Rate)) }
		http, sdk := load.Ratios(r.http, r.entry, load.Rate), load.Ratios(r.sdk, r.entry, load.Rate)
		joined := load.Ratios(r.http, r.joined, load.Rate)
		ratio := best(http, sdk)
		put := func(name string, v float64) { b.figures[fmt.Sprintf("%s_%d", name, c.events)] = v }
		put("accept_per_s", max(rate(r.http), rate(r.sdk)))
		put("accept_per_s_http", rate(r.http))
		put("accept_per_s_client", rate(r.sdk))
		put("accept_per_s_bare", rate(r.entry))
		put("accept_per_s_bare_joined", rate(r.joined))
		put("accept_ratio_bare", ratio.Median)
		put("accept_ratio_bare_http", http.Median)
		put("accept_ratio_bare_client", sdk.Median)
		put("accept_ratio_bare_joined", best(joined, load.Ratios(r.sdk, r.joined, load.Rate)).Median)
		put("accept_p99_ms_http", load.Median(load.Of(r.http, load.P99Ms)))
		worst = min(worst, ratio.Median)
		b.text("%d a call\t%d\t%.0f\t%.0f\t%.0f\t%.0f\t%s\t%s", c.events, b.callers/c.part, rate(r.http), rate(r.sdk), rate(r.entry), rate(r.joined), spread(http), spread(sdk))
	}
	b.figures["accept_ratio_bare"] = worst
}

func best(a, other load.Spread) load.Spread {
	if other.Median > a.Median {
		return other
	}
	return a
}

func spread(s load.Spread) string { return fmt.Sprintf("%.2f [%.2f..%.2f]", s.Median, s.Low, s.High) }
