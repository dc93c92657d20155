package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/mysql"
	"github.com/quiescehq/quiesce/rediscache"
)

const (
	targetsJudgedEvery  = time.Minute
	targetsJudgedAgain  = 5 * time.Second // while one does not answer
	targetsJudgedWithin = 5 * time.Second
)

// Findings on a target.
const (
	findingConfirm  = "confirm"  // it cannot confirm what the configuration asks for
	findingEviction = "eviction" // its maxmemory-policy takes guards before what they guard
)

// judgedTarget is what is asked of a target. [rediscache.Target] is one.
type judgedTarget interface {
	Identity(ctx context.Context) (rediscache.Identity, error)
	Check(ctx context.Context) error
}

// targetChecks is a leader's task: it looks whether the targets are what their configuration and their mappings need, at the beginning of a term and every minute, for a
// server may be set otherwise, or replaced, at any time after a mapping was accepted. What it finds is logged once, and is a metric as long as it lasts.
type targetChecks struct {
	targets map[string]judgedTarget
	view    func(func(*fsm.State))
	log     *slog.Logger

	mu    sync.Mutex
	found map[string]map[string]string // target → finding → reason
}

func newTargetChecks(targets map[string]judgedTarget, log taskLog, logger *slog.Logger) *targetChecks {
	return &targetChecks{targets: targets, view: log.View, log: logger, found: map[string]map[string]string{}}
}

func (p *places) checkedTargets() map[string]judgedTarget {
	out := map[string]judgedTarget{}
	for name, t := range p.targets {
		out[name] = t
	}
	return out
}

// Name implements replica.Task.
func (c *targetChecks) Name() string { return "target checks" }

// Run implements replica.Task. What was found ends with the term: the next leader looks for itself.
func (c *targetChecks) Run(ctx context.Context) error {
	defer c.forget()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			timer.Reset(c.round(ctx))
		}
	}
}

// round judges every target and tells when to do so again.
func (c *targetChecks) round(ctx context.Context) time.Duration {
	wait := targetsJudgedEvery
	for _, name := range sortedKeys(c.targets) {
		found, err := c.judge(ctx, name)
		if err != nil {
			wait = targetsJudgedAgain // deliveries say that it is down
			continue
		}
		c.note(name, found)
	}
	return wait
}

func (c *targetChecks) judge(ctx context.Context, name string) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, targetsJudgedWithin)
	defer cancel()
	target := c.targets[name]
	id, err := target.Identity(ctx)
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	switch err := target.Check(ctx); {
	case errors.Is(err, rediscache.ErrConfig):
		found[findingConfirm] = err.Error() // names a server: for the log only
	case err != nil:
		return nil, err
	}
	for _, spec := range c.specs(name) {
		for _, f := range evictionFindings(spec, id.MaxMemoryPolicy, nil) {
			if f.Level == mysql.LevelError || found[findingEviction] == "" {
				found[findingEviction] = f.Reason
			}
		}
	}
	return found, nil
}

// specs are those of the target's mappings. One that cannot be read is of a newer version, and is passed over.
func (c *targetChecks) specs(target string) (out []mapping.Spec) {
	c.view(func(s *fsm.State) {
		s.Mappings("", func(m fsm.Mapping) bool {
			var spec mapping.Spec
			if m.Target == target && json.Unmarshal(m.Spec, &spec) == nil {
				out = append(out, spec)
			}
			return true
		})
	})
	return out
}

// note keeps what was found, and logs what is new and what is over.
func (c *targetChecks) note(name string, found map[string]string) {
	c.mu.Lock()
	before := c.found[name]
	c.found[name] = found
	c.mu.Unlock()
	for _, finding := range []string{findingConfirm, findingEviction} {
		switch was, is := before[finding], found[finding]; {
		case is != "" && is != was:
			c.log.Warn("a target is not what its mappings need", "target", name, "finding", finding, "reason", is)
		case is == "" && was != "":
			c.log.Info("a target is again what its mappings need", "target", name, "finding", finding)
		}
	}
}

func (c *targetChecks) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.found)
}

var descTargetFindings = prometheus.NewDesc("quiesce_target_findings", "1 while the leader finds that a target is not what its mappings need: see the log.", []string{"target", "finding"}, nil)

// Describe implements prometheus.Collector.
func (c *targetChecks) Describe(out chan<- *prometheus.Desc) { out <- descTargetFindings }

// Collect implements prometheus.Collector.
func (c *targetChecks) Collect(out chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range sortedKeys(c.found) {
		for _, finding := range slices.Sorted(maps.Keys(c.found[name])) {
			out <- prometheus.MustNewConstMetric(descTargetFindings, prometheus.GaugeValue, 1, name, finding)
		}
	}
}
