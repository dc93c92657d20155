package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/bench/fleet"
	"github.com/quiescehq/quiesce/bench/load"
	"github.com/quiescehq/quiesce/bench/system"
	"github.com/quiescehq/quiesce/bench/wire"
)

const (
	fleetService = "fleet"
	planLong     = 5 * time.Minute
	planPoll     = 20 * time.Millisecond
	planAttempt  = 10 * time.Second
	planPause    = 10 * time.Millisecond
)

var (
	errPlan     = errors.New("the plan did not succeed")
	errUnpaired = errors.New("grants came that nothing had freed a place for")
)

// grants restarts a whole service by a plan, with the instances' keepalives parked at all nodes.
func (b *bench) grants(ctx context.Context, q *system.Quiesce) (err error) {
	f, err := b.openFleet(ctx, q, partGrants, []string{fleetService}, b.options.planned)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	f.Switch(fleet.Parked)
	if err := wait(ctx, b.ttl/fleet.KeepalivesPerTTL+steadyFor); err != nil {
		return err
	}
	_, before, err := progress(ctx, q)
	if err != nil {
		return err
	}
	stop, err := b.profile(ctx, q, partGrants)
	if err != nil {
		return err
	}
	revision, started, took, err := b.runPlan(ctx, q, f)
	if err := errors.Join(err, stop(ctx)); err != nil {
		return err
	}
	_, after, err := progress(ctx, q)
	if err != nil {
		return err
	}
	freed, heard := f.Grants()
	latencies, first, unpaired := fleet.Latencies(freed, heard, revision, started)
	if unpaired > 0 {
		return fmt.Errorf("%w: %d of %d", errUnpaired, unpaired, len(heard))
	}
	b.grantFigures(load.NewSample(latencies, 0), load.NewSample(first, 0), took, after.AppliedIndex-before.AppliedIndex)
	return nil
}

func (b *bench) grantFigures(s, first load.Sample, took time.Duration, entries uint64) {
	n := b.options.planned
	name := fmt.Sprintf("_%d", n)
	b.figures["grant_p50_ms"+name], b.figures["grant_p99_ms"+name], b.figures["grant_max_ms"+name] = load.Ms(s.P50), load.Ms(s.P99), load.Ms(s.Max)
	b.figures["grant_first_max_ms"+name] = load.Ms(first.Max)
	b.figures["plan_seconds"+name], b.figures["plan_log_entries"+name] = took.Seconds(), float64(entries)
	b.figures["plan_log_entries_per_restart"] = float64(entries) / float64(n)
	b.row(fmt.Sprintf("grant heard after the place was freed, plan of %d, %d at a time", n, b.budget), s)
	b.row("first grants heard after the plan was started", first)
	b.text("the whole plan, each drain with %s of work\t%.2f s, %d log entries, %.1f for each restart", b.work, took.Seconds(), entries, float64(entries)/float64(n))
}

// openFleet registers instances with their own client of the wire, and notes how fast that goes.
func (b *bench) openFleet(ctx context.Context, q *system.Quiesce, run string, services []string, instances int) (*fleet.Fleet, error) {
	b.say("  registering %d instances of %d services", instances, len(services))
	for _, service := range services {
		if err := fleet.Declare(ctx, q.Addrs[0], run+"-"+service, service, b.budget); err != nil {
			return nil, err
		}
	}
	stop, err := b.profile(ctx, q, run+"-register")
	if err != nil {
		return nil, err
	}
	began := time.Now()
	f, err := fleet.Open(ctx, fleet.Config{Addrs: q.Addrs, Run: run, Services: services, Instances: instances, TTL: b.ttl, AtOnce: b.atOnce, Work: b.work})
	if err := errors.Join(err, stop(ctx)); err != nil {
		return nil, err
	}
	rate := float64(instances) / time.Since(began).Seconds()
	b.figures["register_per_s_"+run] = rate
	b.say("  %.0f registered and ready a second", rate)
	return f, nil
}

// runPlan restarts the fleet, and returns when the plan has succeeded.
func (b *bench) runPlan(ctx context.Context, q *system.Quiesce, f *fleet.Fleet) (revision uint64, started time.Time, took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, planLong)
	defer cancel()
	p := &wire.Patient{Addr: q.Addrs[0], Name: "plan", Pause: planPause, Limit: planAttempt}
	defer p.Close()
	body, err := json.Marshal(api.NewPlan{PlanRules: api.PlanRules{Intent: api.PlanRestart, Services: []string{fleetService}}, Start: true})
	if err != nil {
		return 0, started, 0, err
	}
	started = time.Now()
	if _, err := p.Post(ctx, "/v1/plans", body); err != nil {
		return 0, started, 0, err
	}
	text, _ := p.Field("quiesce-index")
	if revision, err = strconv.ParseUint(text, 10, 64); err != nil {
		return 0, started, 0, err
	}
	if err := f.AwaitRestarts(ctx, b.options.planned); err != nil {
		return 0, started, 0, err
	}
	err = awaitPlan(ctx, p)
	return revision, started, time.Since(started), err
}

// awaitPlan asks only when all is done: the answers take a while to write.
func awaitPlan(ctx context.Context, p *wire.Patient) error {
	for {
		answer, err := p.Get(ctx, "/v1/plans")
		if err != nil {
			return err
		}
		var page api.Plans
		if err := json.Unmarshal(answer, &page); err != nil {
			return err
		}
		if len(page.Plans) != 1 {
			return fmt.Errorf("%w: there are %d", errPlan, len(page.Plans))
		}
		switch plan := page.Plans[0]; plan.State {
		case api.PlanSucceeded:
			return nil
		case api.PlanRunning:
			if err := wait(ctx, planPoll); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%w: %s: %s", errPlan, plan.State, plan.Why)
		}
	}
}
