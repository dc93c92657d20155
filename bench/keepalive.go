package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/bench/load"
	"github.com/quiescehq/quiesce/bench/loads"
	"github.com/quiescehq/quiesce/bench/process"
)

// keepalives measures one call for as many sessions as it may name, then the leader's CPU with as many sessions as a cluster takes.
func (b *bench) keepalives(ctx context.Context) (err error) {
	b.say("keepalives")
	leader, err := b.quiesce.Leader(ctx)
	if err != nil {
		return err
	}
	s, err := loads.NewSessions(ctx, b.quiesce.Addrs[leader], b.runName())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := s.Open(api.KeepaliveIDsMax, sessionTTL); err != nil {
		return err
	}
	one, err := s.Measure(ctx, load.Loop{Warm: b.warm, Measure: b.measure})
	if err != nil {
		return fmt.Errorf("keepalive: %w", err)
	}
	b.results.add(partKeepalive, api.KeepaliveIDsMax, one)
	b.say("  %d sessions in a call: p50 %.2f ms, p99 %.2f ms", api.KeepaliveIDsMax, load.Ms(one.P50), load.Ms(one.P99))
	if err := s.Open(max(0, b.live-api.KeepaliveIDsMax), sessionTTL); err != nil {
		return fmt.Errorf("open %d sessions: %w", b.live, err)
	}
	return b.keepLive(ctx, s, leader)
}

// keepLive measures the CPU that the leader needs to keep all sessions, once around before it counts.
func (b *bench) keepLive(ctx context.Context, s *loads.Sessions, leader int) error {
	if err := s.Keep(ctx, sessionTTL, sessionTTL/loads.KeepalivesPerTTL); err != nil {
		return fmt.Errorf("keep sessions: %w", err)
	}
	stop := noStop
	if b.profiles != "" {
		var err error
		if stop, err = b.profile(ctx, "keepalive-live"); err != nil {
			return err
		}
	}
	pid := b.quiesce.PID(leader)
	before, err := process.CPU(pid)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := s.Keep(ctx, sessionTTL, b.keep); err != nil {
		return fmt.Errorf("keep sessions: %w", err)
	}
	took := time.Since(began)
	after, err := process.CPU(pid)
	if err := errors.Join(err, stop(ctx)); err != nil {
		return err
	}
	b.results.live, b.results.cores = b.live, (after-before).Seconds()/took.Seconds()
	b.say("  %d live sessions: %.2f of a core", b.live, b.results.cores)
	return nil
}
