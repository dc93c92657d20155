package main

import (
	"context"
	"fmt"
	"time"

	"github.com/quiescehq/quiesce/cluster_test/traffic"
)

// What the checks allow. On an idle machine a planned stop takes some 50 ms and a failover about a second (two election timeouts). These
// leave room for a machine on which the nodes do not get their turn in time, and hold an election of their own.
const (
	plannedGapMax  = 2 * time.Second
	failoverGapMax = 5 * time.Second
	okMin          = 1_000 // requests: a run that served fewer has shown nothing
	callsMin       = 100
	writesMin      = 50 // of a probe

	readyLimit  = 60 * time.Second
	wholeLimit  = 60 * time.Second
	drainLimit  = 60 * time.Second
	probeLimit  = 30 * time.Second
	warmUp      = 400 // requests
	warmLimit   = 60 * time.Second
	outage      = 3 * time.Second
	outageLimit = 30 * time.Second
	backlogMin  = 50
)

type phase struct {
	title string
	run   func(*demo, context.Context) error
}

// phases is the story. Each leaves a healthy system to the next one.
var phases = []phase{
	{"three instances of orders start, and the load begins", (*demo).begin},
	{"SIGTERM to every instance, one after another", (*demo).rollApps},
	{"a plan restarts every instance", (*demo).rollByPlan},
	{"SIGTERM to the leading node", (*demo).stopNode},
	{"SIGKILL to the leading node", (*demo).killLeader},
	{"Redis stops and comes back empty", (*demo).stopRedis},
	{"MySQL stops and comes back", (*demo).stopMySQL},
	{"drift is planted in Redis by hand", (*demo).repairDrift},
	{"the load ends", (*demo).settle},
	{"table and cache, ledger and clients are compared", (*demo).compare},
	{"a plan stops the service, and the nodes are compared", (*demo).end},
}

func (d *demo) begin(ctx context.Context) error {
	if err := d.declare(ctx); err != nil {
		return err
	}
	for n := range ordersCount {
		if err := d.startApp(ctx, appName(n)); err != nil {
			return err
		}
	}
	if err := until(ctx, readyLimit, d.balancer.AllReady(ordersCount)); err != nil {
		return err
	}
	if err := until(ctx, readyLimit, d.declared); err != nil {
		return err
	}
	d.load.start(ctx)
	d.direct.start(ctx)
	return until(ctx, warmLimit, d.served(d.load.tally.Counts().OK+warmUp))
}

func appName(n int) string { return fmt.Sprintf("orders-%d", n+1) }

func (d *demo) startApp(ctx context.Context, name string) error {
	i, err := d.fleet.start(ctx, name)
	if err != nil {
		return err
	}
	d.balancer.Put(name, i.base)
	return nil
}

// declared tells what is missing until the application has told the cluster its mapping.
func (d *demo) declared(ctx context.Context) string {
	if err := d.cluster.get(ctx, "/v1/mappings/"+mappingName, nil); err != nil {
		return err.Error()
	}
	return ""
}

func (d *demo) served(ok uint64) func(context.Context) string {
	return func(context.Context) string {
		if c := d.load.tally.Counts(); c.OK < ok {
			return fmt.Sprintf("%d requests served of %d; %v", c.OK, ok, c)
		}
		return ""
	}
}

// rollApps restarts the instances as a platform would: signal, wait for the exit, start anew under the same name.
func (d *demo) rollApps(ctx context.Context) error {
	before := d.load.tally.Counts()
	d.balancer.Watch()
	codes := []int{}
	for n := range ordersCount {
		name := appName(n)
		code, err := d.fleet.stop(ctx, name)
		if err != nil {
			return err
		}
		codes = append(codes, code)
		if err := d.startApp(ctx, name); err != nil {
			return err
		}
		if err := until(ctx, readyLimit, d.balancer.AllReady(ordersCount)); err != nil {
			return err
		}
	}
	least := d.balancer.LeastReady()
	d.report.check("instances restart in order", allZero(codes) && least >= ordersCount-1, "exit codes %v, at least %d of %d ready", codes, least, ordersCount)
	d.noneLost("rolling restart", before)
	return nil
}

func allZero(codes []int) bool {
	for _, code := range codes {
		if code != 0 {
			return false
		}
	}
	return true
}

// noneLost checks the requests since before: none failed, none met a broken or refused connection.
func (d *demo) noneLost(during string, before traffic.Counts) {
	c := d.load.tally.Counts().Minus(before)
	d.report.check("no request lost: "+during, c.OK > 0 && c.Failed+c.Cut+c.Refused+c.Timed == 0, "%v", c)
}

// stopNode ends the node that leads in order, and starts it again. The script fails unless it exits with 0.
func (d *demo) stopNode(ctx context.Context) error {
	before, calls, failed := d.load.tally.Counts(), d.direct.calls.Load(), d.direct.failed.Load()
	gap, err := d.loseLeader(ctx, "planned stop", "term")
	if err != nil {
		return err
	}
	d.report.figure("write_gap_planned_ms", gap.Milliseconds())
	d.report.check("write gap of a planned stop", gap <= plannedGapMax, "%d ms", gap.Milliseconds())
	made, bad := d.direct.calls.Load()-calls, d.direct.failed.Load()-failed
	d.report.check("no call to the nodes failed: planned stop", made > 0 && bad == 0, "%d calls, %d failed", made, bad)
	d.noneLost("planned stop", before)
	return nil
}

// killLeader ends the leader without a word.
func (d *demo) killLeader(ctx context.Context) error {
	d.direct.faults.Add(1)
	gap, err := d.loseLeader(ctx, "failover", "kill")
	if err != nil {
		return err
	}
	d.direct.faults.Add(1)
	d.report.figure("write_gap_failover_ms", gap.Milliseconds())
	d.report.check("write gap of a failover", gap <= failoverGapMax, "%d ms", gap.Milliseconds())
	return nil
}

// loseLeader takes the leader away and brings it back, while a probe writes through the other nodes. It gives the longest time between two
// acknowledged writes, and checks that all of them can be read in the end.
func (d *demo) loseLeader(ctx context.Context, during, command string) (time.Duration, error) {
	leader, err := d.cluster.leader(ctx)
	if err != nil {
		return 0, err
	}
	probe, err := startProbe(ctx, d.cluster, command, d.cluster.others(leader.ID))
	if err != nil {
		return 0, err
	}
	defer probe.close()
	if err := until(ctx, probeLimit, wrote(probe, writesMin)); err != nil {
		return 0, err
	}
	if err := d.cluster.script(ctx, command, leader.ID); err != nil {
		return 0, err
	}
	if err := until(ctx, probeLimit, wrote(probe, probe.count()+writesMin)); err != nil {
		return 0, err
	}
	if err := d.comeBack(ctx, leader); err != nil {
		return 0, err
	}
	gap, err := probe.finish(probeLimit)
	if err != nil {
		return 0, err
	}
	lost, err := probe.lost(ctx)
	if err != nil {
		return 0, err
	}
	d.report.check("nothing acknowledged is lost: "+during, lost == 0, "%d of %d acknowledged locks missing", lost, probe.count())
	return gap, nil
}

func wrote(p *gapProbe, n int) func(context.Context) string {
	return func(context.Context) string {
		if p.count() < n {
			p.mu.Lock()
			defer p.mu.Unlock()
			return fmt.Sprintf("%d writes acknowledged of %d, last failure: %v", len(p.times), n, p.failed)
		}
		return ""
	}
}

// comeBack starts a node again and waits until it votes.
func (d *demo) comeBack(ctx context.Context, n node) error {
	if err := d.cluster.script(ctx, "start", n.ID); err != nil {
		return err
	}
	return until(ctx, wholeLimit, d.cluster.whole)
}

// stopRedis lets events pile up. Redis keeps nothing on disk here, so that after it the cache lacks every row that was not written since:
// a pass brings them back.
func (d *demo) stopRedis(ctx context.Context) error {
	if err := d.outage(ctx, "redis", "Redis"); err != nil {
		return err
	}
	pass, err := d.cluster.runPass(ctx, "rebuild", "rewrite")
	if err != nil {
		return err
	}
	c := pass.Counts
	d.report.figure("rebuilt", c.Repaired)
	d.report.check("a pass rebuilds the empty cache", c.Missing > 0 && c.Repaired == c.Differences, "%d rows: %d missing, %d repaired", c.Rows, c.Missing, c.Repaired)
	return until(ctx, drainLimit, d.cluster.drainedSince(time.Now()))
}

// outage stops a server while writes go on, for a while and until a backlog is there, and starts it again.
func (d *demo) outage(ctx context.Context, server, title string) error {
	d.direct.faults.Add(1)
	if err := d.cluster.script(ctx, "stop-"+server); err != nil {
		return err
	}
	stopped, backlog := time.Now(), 0
	err := until(ctx, outageLimit, func(ctx context.Context) string {
		stats, err := d.cluster.outbox(ctx)
		if err != nil {
			return err.Error()
		}
		backlog = max(backlog, stats.Pending)
		if backlog < backlogMin || time.Since(stopped) < outage {
			return fmt.Sprintf("%d events pending without %s", backlog, title)
		}
		return ""
	})
	if err != nil {
		return err
	}
	if err := d.cluster.script(ctx, "start-"+server); err != nil {
		return err
	}
	returned := time.Now()
	if err := until(ctx, drainLimit, d.cluster.drainedSince(returned)); err != nil {
		return err
	}
	d.direct.faults.Add(1)
	stats, err := d.cluster.outbox(ctx)
	if err != nil {
		return err
	}
	took := time.Since(returned).Milliseconds()
	d.report.figure(server+"_backlog_max", backlog)
	d.report.figure(server+"_drained_ms", took)
	d.report.check("nothing lost without "+title, stats.Dead == 0, "%d events waited, all delivered %d ms after it was back, %d dead letters", backlog, took, stats.Dead)
	return nil
}

func (d *demo) stopMySQL(ctx context.Context) error {
	if err := d.outage(ctx, "mysql", "MySQL"); err != nil {
		return err
	}
	return until(ctx, warmLimit, d.served(d.load.tally.Counts().OK+warmUp/4))
}
