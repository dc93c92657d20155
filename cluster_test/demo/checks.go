package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quiescehq/quiesce/api"
)

// repairDrift plants differences and lets passes find, repair and no longer find them, while the load goes on.
func (d *demo) repairDrift(ctx context.Context) error {
	planted, err := plant(ctx, d.cache, d.load.book.quietOnes())
	if err != nil {
		return err
	}
	found, err := d.cluster.runPass(ctx, "find", "dry_run")
	if err != nil {
		return err
	}
	stale, missing, err := d.cluster.differences(ctx, found.ID)
	if err != nil {
		return err
	}
	exact := slices.Equal(stale, sorted(planted.stale)) && slices.Equal(missing, sorted(planted.missing)) &&
		found.Counts.Differences == quietOrders && found.Counts.Repaired == 0
	d.report.figure("drift_planted", quietOrders)
	d.report.figure("drift_found", found.Counts.Differences)
	d.report.check("drift is found exactly", exact, "planted %d stale (%d of them swapped) and %d missing, found %d and %d, of %d rows under load",
		len(planted.stale), 2*swappedPairs, len(planted.missing), found.Counts.Stale, found.Counts.Missing, found.Counts.Rows)

	repaired, err := d.cluster.runPass(ctx, "repair", "rewrite")
	if err != nil {
		return err
	}
	d.report.figure("drift_repaired", repaired.Counts.Repaired)
	d.report.check("drift is repaired", repaired.Counts.Repaired == quietOrders, "%d of %d rows", repaired.Counts.Repaired, quietOrders)

	again, err := d.cluster.runPass(ctx, "again", "dry_run")
	if err != nil {
		return err
	}
	c := again.Counts
	d.report.check("a pass after it is clean", c.Differences == 0 && c.Rows > 0 && again.Expected == again.Actual,
		"%d differences in %d rows, %d of them changing", c.Differences, c.Rows, c.Hot)
	return nil
}

func sorted(keys []string) []string { return slices.Sorted(slices.Values(keys)) }

// settle ends the load, waits for the last event and judges what clients have seen.
func (d *demo) settle(ctx context.Context) error {
	d.load.finish()
	d.direct.finish()
	if err := until(ctx, drainLimit, d.cluster.empty); err != nil {
		return err
	}
	c := d.load.tally.Counts()
	d.report.figure("requests_ok", c.OK)
	d.report.figure("requests_retried", c.Retried)
	d.report.figure("requests_failed", c.Failed)
	d.report.figure("attempts_cut", c.Cut)
	d.report.figure("attempts_refused", c.Refused)
	d.report.figure("attempts_timed_out", c.Timed)
	d.report.figure("attempts_gated", c.Gated)
	d.report.figure("attempts_busy", c.Busy)
	d.report.check("every request succeeded in the end", c.Failed == 0 && c.OK >= okMin, "%d ok, %d of them after a retry, %d failed", c.OK, c.Retried, c.Failed)
	d.report.check("no connection was cut or refused", c.Cut+c.Refused+c.Timed == 0, "cut %d, refused %d, timed out %d", c.Cut, c.Refused, c.Timed)

	calls, failed, broken := d.direct.calls.Load(), d.direct.failed.Load(), d.direct.broken.Load()
	d.report.figure("calls_ok", calls-failed)
	d.report.check("every call to the nodes succeeded", failed == 0 && calls >= callsMin, "%d calls, %d failed", calls, failed)
	d.report.check("locks are exclusive and tokens rise", broken == 0 && calls >= callsMin, "%d violations", broken)
	return d.judgeEvents(ctx)
}

func (d *demo) judgeEvents(ctx context.Context) error {
	given, done, err := d.direct.delivered(ctx)
	if err != nil {
		return err
	}
	stats, err := d.cluster.outbox(ctx)
	if err != nil {
		return err
	}
	p50, p99 := d.direct.percentile(0.5), d.direct.percentile(0.99)
	d.report.figure("events_accepted", given)
	d.report.figure("events_delivered", done)
	d.report.figure("events_dead", stats.Dead)
	d.report.figure("lag_p50_ms", milliseconds(p50))
	d.report.figure("lag_p99_ms", milliseconds(p99))
	d.report.check("every accepted event was delivered", given > 0 && given == done && stats.Dead == 0 && stats.Pending == 0,
		"%d accepted, %d delivered, %d dead letters; lag p50 %.1f ms, p99 %.1f ms", given, done, stats.Dead, milliseconds(p50), milliseconds(p99))
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1_000 }

// compare judges by what lies in MySQL and Redis.
func (d *demo) compare(ctx context.Context) error {
	a, err := auditLedger(ctx, d.db, d.load.book.acked)
	if err != nil {
		return err
	}
	d.report.figure("ledger_acknowledged", a.acked)
	d.report.figure("ledger_committed", a.committed)
	d.report.check("acknowledged is committed exactly once", a.exact(), "%v", a)

	inTable, err := tableRows(ctx, d.db)
	if err != nil {
		return err
	}
	inCache, err := cacheRows(ctx, d.cache)
	if err != nil {
		return err
	}
	table, cache := sumRows(inTable), sumRows(inCache)
	d.report.figure("digest_table", table.sum)
	d.report.figure("digest_cache", cache.sum)
	d.report.check("table and cache are equal", table == cache && table.rows > 0, "table %v, cache %v", table, cache)
	for _, line := range differing(inTable, inCache) {
		d.report.say("%s", line)
	}
	return nil
}

// end stops the application, so that nothing moves, and compares the nodes.
func (d *demo) end(ctx context.Context) error {
	if _, err := d.plan(ctx, api.PlanRules{Intent: api.PlanShutdown, Services: []string{ordersService}, AllowZero: true}); err != nil {
		return err
	}
	codes := make([]int, ordersCount)
	var group errgroup.Group
	for n := range codes {
		group.Go(func() (err error) {
			codes[n], err = d.fleet.await(ctx, appName(n))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	d.report.check("a plan stops the service", allZero(codes), "exit codes %v", codes)
	return d.compareNodes(ctx)
}

// compareNodes waits until all nodes have applied the same entry, and compares what they hold then.
func (d *demo) compareNodes(ctx context.Context) error {
	var seen []api.Cluster
	err := until(ctx, wholeLimit, func(ctx context.Context) string {
		seen = seen[:0]
		for _, n := range d.cluster.nodes {
			var one api.Cluster
			if err := d.cluster.call(ctx, n, http.MethodGet, "/v1/cluster?consistency=stale", nil, nil, &one); err != nil {
				return err.Error()
			}
			seen = append(seen, one)
		}
		for _, one := range seen[1:] {
			if one.AppliedIndex != seen[0].AppliedIndex {
				return fmt.Sprintf("nodes have applied %d and %d", seen[0].AppliedIndex, one.AppliedIndex)
			}
		}
		return ""
	})
	if err != nil {
		return err
	}
	digests := []string{}
	for _, one := range seen {
		digests = append(digests, one.Digest)
	}
	d.report.figure("digest_nodes", digests)
	same := seen[0].Digest != "" && len(slices.Compact(slices.Clone(digests))) == 1
	d.report.check("all nodes hold the same state", same, "%d nodes at index %d: %.12s", len(seen), seen[0].AppliedIndex, digests)
	return nil
}
