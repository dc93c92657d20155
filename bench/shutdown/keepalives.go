package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/bench/fleet"
	"github.com/quiescehq/quiesce/bench/process"
	"github.com/quiescehq/quiesce/bench/system"
)

const steadyTries = 3

// footprint is what a node has used so far and has now.
type footprint struct {
	cpu        time.Duration
	resident   uint64 // bytes
	live       float64
	stacks     float64 // bytes
	goroutines float64
}

// keeping is one way of keeping the fleet alive, for a time.
type keeping struct {
	leader   int // node that led at the end
	took     time.Duration
	rates    []float64 // keepalives a second, by node
	cores    []float64 // by node
	after    []footprint
	entries  uint64
	commands uint64 // revisions
	terms    uint64 // elections
	again    uint64 // attempts that brought no answer
}

// keepalives keeps a fleet alive in three ways, and once while the leadership moves. No lease may be lost in any of them.
func (b *bench) keepalives(ctx context.Context, q *system.Quiesce) (err error) {
	var services []string
	for i := range b.services {
		services = append(services, fmt.Sprintf("%s-%d", fleetService, i))
	}
	f, err := b.openFleet(ctx, q, partKeepalives, services, b.instances)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	unparked, err := b.keepIn(ctx, q, f, fleet.Unparked, "unparked")
	if err != nil {
		return err
	}
	parked, err := b.keepIn(ctx, q, f, fleet.Parked, "parked")
	if err != nil {
		return err
	}
	moved, err := b.keepFor(ctx, q, f, 2*b.ttl, func() error { return q.Transfer(ctx) })
	if err != nil {
		return fmt.Errorf("with a transfer: %w", err)
	}
	flat, err := b.keepIn(ctx, q, f, fleet.Flat, "flat")
	if err != nil {
		return err
	}
	b.keepaliveFigures(unparked, parked, moved, flat)
	return nil
}

// keepIn lets everybody follow into a mode and past what the change left to be done, and then measures it in a term that lasts. A leader
// that is deposed meanwhile is counted, and it is measured again. If no term lasts the last try stands, beside the count of elections.
func (b *bench) keepIn(ctx context.Context, q *system.Quiesce, f *fleet.Fleet, mode fleet.Mode, name string) (k keeping, err error) {
	f.Switch(mode)
	for range steadyTries {
		if err := wait(ctx, b.ttl); err != nil {
			return k, err
		}
		stop, err := b.profile(ctx, q, "keepalives-"+name)
		if err != nil {
			return k, err
		}
		k, err = b.keepFor(ctx, q, f, b.keep, func() error { return nil })
		if err := errors.Join(err, stop(ctx)); err != nil {
			return k, fmt.Errorf("%s: %w", name, err)
		}
		b.figures["keepalive_elections"] += float64(k.terms)
		b.say("  %s: %.0f keepalives/s and %.2f cores by node, %d log entries, %d elections, %.0f MB resident", name, k.rates, k.cores, k.entries, k.terms, k.residentMB())
		if k.terms == 0 {
			return k, nil
		}
	}
	b.say("  %s: no term lasted for so long; what follows includes elections", name)
	return k, nil
}

// keepFor measures what happens in some time, and does something at its beginning.
func (b *bench) keepFor(ctx context.Context, q *system.Quiesce, f *fleet.Fleet, during time.Duration, first func() error) (k keeping, err error) {
	_, from, err := progress(ctx, q)
	if err != nil {
		return k, err
	}
	before, err := footprints(ctx, q)
	if err != nil {
		return k, err
	}
	counted, again, began := f.Count(), sum(f.Again()), time.Now()
	if err := errors.Join(first(), wait(ctx, during), f.Err()); err != nil {
		return k, err
	}
	k.took = time.Since(began)
	k.again = sum(f.Again()) - again
	for node, n := range f.Count() {
		k.rates = append(k.rates, float64(n-counted[node])/k.took.Seconds())
	}
	if k.after, err = footprints(ctx, q); err != nil {
		return k, err
	}
	for node, a := range k.after {
		k.cores = append(k.cores, (a.cpu-before[node].cpu).Seconds()/k.took.Seconds())
	}
	var to api.Cluster
	k.leader, to, err = progress(ctx, q)
	k.entries, k.commands, k.terms = to.AppliedIndex-from.AppliedIndex, to.Index-from.Index, to.Term-from.Term
	return k, err
}

func footprints(ctx context.Context, q *system.Quiesce) ([]footprint, error) {
	var out []footprint
	for node := range q.Addrs {
		var f footprint
		var errs [5]error
		f.cpu, errs[0] = process.CPU(q.PID(node))
		f.resident, errs[1] = process.Resident(q.PID(node))
		f.live, errs[2] = q.Metric(ctx, node, "go_memstats_heap_inuse_bytes")
		f.stacks, errs[3] = q.Metric(ctx, node, "go_memstats_stack_inuse_bytes")
		f.goroutines, errs[4] = q.Metric(ctx, node, "go_goroutines")
		if err := errors.Join(errs[:]...); err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

const mega = 1e6

func (k keeping) residentMB() (out []float64) {
	for _, f := range k.after {
		out = append(out, float64(f.resident)/mega)
	}
	return out
}

func (b *bench) keepaliveFigures(unparked, parked, moved, flat keeping) {
	n := float64(b.instances)
	f := b.figures
	f["keepalive_instances"] = n
	f["keepalive_log_entries"] = float64(unparked.entries + parked.entries)
	f["keepalive_log_entries_per_lease_failover"] = float64(moved.entries) / n
	f["keepalive_renewals_per_lease_failover"] = float64(moved.commands) / n
	f["keepalive_retries_failover"] = float64(moved.again)
	f["keepalives_per_s_node"] = mean(flat.rates)
	b.text("keepalives of %.0f instances, TTL %s\t/s and node\tcores: leader, others\tlog entries\tresident MB\tgoroutines", n, b.ttl)
	for _, c := range []struct {
		name string
		keeping
	}{{"unparked", unparked}, {"parked", parked}, {"flat", flat}} {
		lead, others := apart(c.cores, c.leader)
		f["keepalives_per_s_node_"+c.name], f["keepalive_cores_leader_"+c.name], f["keepalive_cores_follower_"+c.name] = mean(c.rates), lead, others
		at := c.after[c.leader]
		f["keepalive_resident_mb_leader_"+c.name], f["keepalive_stacks_mb_leader_"+c.name] = float64(at.resident)/mega, at.stacks/mega
		f["keepalive_goroutines_leader_"+c.name] = at.goroutines
		b.text("%s\t%.0f\t%.2f, %.2f\t%d\t%.0f\t%.0f", c.name, mean(c.rates), lead, others, c.entries, c.residentMB(), at.goroutines)
	}
	b.text("one transfer of the leadership, parked\t%d log entries, %d commands, %d attempts without an answer", moved.entries, moved.commands, moved.again)
}

// apart gives the leader's share and the mean of the others.
func apart(values []float64, leader int) (lead, others float64) {
	for node, v := range values {
		if node == leader {
			lead = v
		} else {
			others += v / float64(max(1, len(values)-1))
		}
	}
	return lead, others
}

func mean(values []float64) (out float64) {
	for _, v := range values {
		out += v / float64(len(values))
	}
	return out
}

func sum(values []uint64) (out uint64) {
	for _, v := range values {
		out += v
	}
	return out
}
