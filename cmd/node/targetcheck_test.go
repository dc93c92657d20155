package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quiescehq/quiesce/cluster_test/services"
	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/rediscache"
)

// scriptedTarget is what it is told to be.
type scriptedTarget struct{ is atomic.Pointer[targetScript] }

type targetScript struct {
	policy string
	check  error
	down   error
}

func scripted(script targetScript) *scriptedTarget {
	s := &scriptedTarget{}
	s.is.Store(&script)
	return s
}

func (s *scriptedTarget) Identity(context.Context) (rediscache.Identity, error) {
	is := s.is.Load()
	return rediscache.Identity{MaxMemoryPolicy: is.policy}, is.down
}

func (s *scriptedTarget) Check(context.Context) error {
	is := s.is.Load()
	return errors.Join(is.down, is.check)
}

// checks are those of one target with a mapping that writes and one that does not.
func checks(said *bytes.Buffer, target judgedTarget) *targetChecks {
	state := fsm.New()
	for i, mode := range []string{"invalidate", "write_through"} {
		state.Apply(uint64(i+1), fsm.Entry{Now: 1, Ops: []fsm.Op{{Command: fsm.PutMapping{Name: "m" + mode[:1], Source: "main", Target: "cache", Table: "t",
			Spec: fmt.Appendf(nil, `{"mode":%q}`, mode), Columns: []byte("[]")}}}})
	}
	return &targetChecks{targets: map[string]judgedTarget{"cache": target}, view: func(f func(*fsm.State)) { f(state) }, log: slog.New(slog.NewTextHandler(said, nil)), found: map[string]map[string]string{}}
}

// gauges counts what is shown.
func (c *targetChecks) gauges() int {
	out := make(chan prometheus.Metric, 16)
	c.Collect(out)
	return len(out)
}

// Once for each finding that is new, and again when it is over. A target that does not answer changes nothing.
func TestTargetChecks_SayWhatIsFoundOnceAndShowItWhileItLasts(t *testing.T) {
	t.Parallel()
	said := &bytes.Buffer{}
	target := scripted(targetScript{policy: "noeviction"})
	c := checks(said, target)
	refused := fmt.Errorf("%w: confirmation by 2 replicas, and it has 1", rediscache.ErrConfig)
	for i, step := range []struct {
		targetScript
		lines, gauges int
		wait          time.Duration
	}{
		{targetScript{policy: "noeviction"}, 0, 0, targetsJudgedEvery},
		{targetScript{policy: "volatile-ttl"}, 1, 1, targetsJudgedEvery},
		{targetScript{policy: "volatile-ttl"}, 1, 1, targetsJudgedEvery},
		{targetScript{policy: "volatile-ttl", check: refused}, 2, 2, targetsJudgedEvery},
		{targetScript{down: rediscache.ErrUnreachable}, 2, 2, targetsJudgedAgain},
		{targetScript{policy: "noeviction", check: refused}, 3, 1, targetsJudgedEvery},
		{targetScript{policy: "noeviction"}, 4, 0, targetsJudgedEvery},
	} {
		target.is.Store(&step.targetScript)
		if wait := c.round(t.Context()); wait != step.wait {
			t.Errorf("step %d: again after %v, want %v", i, wait, step.wait)
		}
		if lines := strings.Count(said.String(), "\n"); lines != step.lines || c.gauges() != step.gauges {
			t.Errorf("step %d: %d lines and %d gauges, want %d and %d:\n%s", i, lines, c.gauges(), step.lines, step.gauges, said)
		}
	}
}

func TestTargetChecks_BeginWithTheTermAndEndWithIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		target := scripted(targetScript{policy: "volatile-ttl"})
		c := checks(&bytes.Buffer{}, target)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx) }()
		synctest.Wait()
		if c.gauges() != 1 {
			t.Error("nothing was found at the beginning of the term")
		}
		target.is.Store(&targetScript{policy: "noeviction"})
		<-time.After(targetsJudgedEvery + time.Second)
		synctest.Wait()
		if c.gauges() != 0 {
			t.Error("what is over is still shown")
		}
		target.is.Store(&targetScript{policy: "volatile-ttl"})
		<-time.After(targetsJudgedEvery)
		synctest.Wait()
		cancel()
		if err := <-ended; err != nil || c.gauges() != 0 {
			t.Errorf("after the term: %v, %d gauges", err, c.gauges())
		}
	})
}

func TestTargetChecks_OfARealServer(t *testing.T) {
	t.Parallel()
	server := services.OwnRedis(t, "--maxmemory-policy", "volatile-ttl")
	target, err := rediscache.Open(rediscache.Config{Name: "cache", Addr: server.Addr, Confirm: rediscache.Confirm{Replicas: 1}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = target.Close() })
	said := &bytes.Buffer{}
	c := checks(said, target)
	c.round(t.Context())
	if c.gauges() != 2 || !strings.Contains(said.String(), "volatile-ttl") || !strings.Contains(said.String(), "replicas") {
		t.Errorf("%d gauges; log:\n%s", c.gauges(), said)
	}
	server.Do("CONFIG", "SET", "maxmemory-policy", "noeviction")
	c.round(t.Context())
	if c.gauges() != 1 {
		t.Errorf("%d gauges after the policy was changed; log:\n%s", c.gauges(), said)
	}
}
