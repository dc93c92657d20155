package relay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mysql"
)

const lookAgainMax = time.Minute // cluster time and ours need not go at the same pace

// prober looks at the fences of one source's prepared events that nobody has ended. Its fields belong to the goroutine of run.
type prober struct {
	task   *Task
	name   string
	source Source
	fails  complaint
}

func newProber(t *Task, name string) *prober {
	return &prober{task: t, name: name, source: t.Sources[name],
		fails: complaint{logger: t.Logger.With("source", name), what: "fences of prepared events are not looked at"}}
}

func (p *prober) run(ctx context.Context) error {
	prepared, stopPrepared := p.task.Log.Watch("prepared", "")
	defer stopPrepared()
	pauses, stopPauses := p.task.Log.Watch("pauses", "")
	defer stopPauses()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		changed := prepared
		if p.fails.failures > 0 {
			changed = nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-pauses:
		case <-timer.C:
		}
		timer.Reset(p.step(ctx))
	}
}

// step looks at the fences that are due and tells when to go on.
func (p *prober) step(ctx context.Context) time.Duration {
	if p.task.paused(p.name) {
		return aLongTime
	}
	due, wait := p.due()
	if len(due) == 0 {
		return wait
	}
	if err := p.probe(ctx, due); err != nil && ctx.Err() == nil {
		p.fails.fail(reason(err), err)
		return doubling(p.task.config.RetryMin, p.task.config.RetryMax, p.fails.failures)
	}
	p.fails.recover()
	return 0
}

// due gives the fences that are to be looked at now, as many as one round takes, or how long there is none.
func (p *prober) due() (due []fsm.Prepared, wait time.Duration) {
	now := p.task.Log.Now()
	wait = lookAgainMax
	p.task.Log.View(func(s *fsm.State) {
		s.DuePrepared(p.name, now, func(x fsm.Prepared) bool {
			due = append(due, x)
			return len(due) < p.task.config.ProbesAtOnce
		})
		if next, ok := s.NextProbe(p.name); ok && next > now {
			wait = min(wait, time.Duration(next-now)*time.Millisecond)
		}
	})
	return due, wait
}

// probe looks at fences together and logs what it found in one entry. What it could not find out stays due.
func (p *prober) probe(ctx context.Context, due []fsm.Prepared) error {
	cluster := p.task.Log.ClusterID()
	var mu sync.Mutex
	var found []fsm.Probe
	var faults []error
	open := 0
	var group errgroup.Group
	for _, x := range due {
		group.Go(func() error {
			verdict, err := p.source.Probe(ctx, fsm.FenceID(cluster, x.ID))
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				faults = append(faults, err)
				return nil
			}
			if verdict == mysql.FenceOpen {
				open++
			}
			found = append(found, p.judge(x, verdict))
			return nil
		})
	}
	_ = group.Wait() // faults has the errors of all
	p.task.places[p.name].update(func(s *Status) { s.Open = open })
	if len(found) > 0 {
		result, err := p.task.propose(ctx, fsm.ProbePrepared{Probes: found})
		switch {
		case err != nil:
			faults = append(faults, fmt.Errorf("%w: %w", errNotLogged, err))
		case result.Refused():
			faults = append(faults, fmt.Errorf("%w: %s: %s", errNotLogged, result.Code, result.Detail))
		}
	}
	return errors.Join(faults...)
}

// judge puts a verdict into the log's words.
func (p *prober) judge(x fsm.Prepared, verdict mysql.FenceVerdict) fsm.Probe {
	switch verdict {
	case mysql.FenceCommitted:
		return fsm.Probe{ID: x.ID, Verdict: fsm.VerdictCommitted}
	case mysql.FenceRolledBack:
		return fsm.Probe{ID: x.ID, Verdict: fsm.VerdictRolledBack}
	}
	again := doubling(p.task.config.OpenMin, p.task.config.OpenMax, int(x.Probes)+1)
	return fsm.Probe{ID: x.ID, Verdict: fsm.VerdictOpen, DelayMs: uint64(again.Milliseconds())}
}
