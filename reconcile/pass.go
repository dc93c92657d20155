package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mapping"
)

// pass is one pass under way. Two goroutines share it: scan reads chunks of the table ahead, judge owns everything that changes.
type pass struct {
	config   Config
	log      Log
	acks     Acknowledgements
	relays   Relays
	logger   *slog.Logger
	progress *progress

	mapping  *mapping.Mapping
	examiner *mapping.Examiner // of judge alone
	source   Source
	target   Target

	// Of judge alone.
	logged  fsm.Pass  // as it stands in the replicated state
	saved   time.Time // of the last checkpoint
	window  window
	waiting waiting
	samples int // differences kept to be shown, logged or on their way
}

// runPass runs one pass until it has ended or ctx has. Errors do not come out: they are waited out, or become the pass's reason.
func (t *Task) runPass(ctx context.Context, record fsm.Pass) {
	shown, done := t.track(record.ID, record.Mapping)
	defer done()
	logger := t.Logger.With("pass", record.ID, "mapping", record.Mapping)
	logger.Info("pass runs", "mode", record.Mode, "cursor", record.Cursor)
	for attempt := 0; ; attempt++ {
		p := &pass{config: t.config, log: t.Log, acks: t.Acknowledged, relays: t.Relays, logger: logger, progress: shown, logged: record, saved: time.Now()}
		err := p.work(ctx, t.Parts)
		if !errors.Is(err, errMoved) || p.pause(ctx, laneJudge, attempt, err) != nil {
			logger.Info("pass stops", "reason", err, "cursor", p.logged.Cursor)
			return
		}
		record = t.record(record.ID)
	}
}

func (t *Task) record(id uint64) (p fsm.Pass) {
	t.Log.View(func(s *fsm.State) { p, _ = s.Pass(id) })
	return p
}

// work runs the pass from its cursor to its end, which is logged as well.
func (p *pass) work(ctx context.Context, parts Parts) error {
	err := p.prepare(ctx, parts)
	if err == nil && p.logged.Phase == fsm.PassRows {
		err = p.compareTable(ctx)
	}
	if err == nil && p.logged.Extras {
		err = p.compareKeys(ctx)
	}
	failed, isFailure := errors.AsType[*failure](err)
	switch {
	case err == nil:
		return p.finish(ctx, "")
	case isFailure:
		return p.finish(ctx, failed.reason)
	}
	return err
}

func (p *pass) compareTable(ctx context.Context) error {
	after, err := startAfter(p.logged.Cursor)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	chunks := make(chan []mapping.Row)
	group.Go(func() error { return p.scan(ctx, after, chunks) })
	group.Go(func() error { return p.judge(ctx, chunks) })
	return group.Wait()
}

func startAfter(cursor string) ([]string, error) {
	if cursor == "" {
		return nil, nil
	}
	after, err := mapping.DecodeKey(cursor)
	if err != nil {
		return nil, fatal(err)
	}
	return after, nil
}

// prepare compiles the mapping and finds its places. A node without the source or the target waits for another leader or an operator; and
// until the outbox of this term remembers its deliveries, every difference would have to pass for hot.
func (p *pass) prepare(ctx context.Context, parts Parts) error {
	record, err := p.mappingRecord()
	if err != nil {
		return err
	}
	if p.mapping, err = compile(record); err != nil {
		return err
	}
	p.examiner = mapping.NewExaminer(p.mapping)
	return p.retry(ctx, laneJudge, func() error {
		var known bool
		if p.source, known = parts.Sources[record.Source]; !known {
			return fmt.Errorf("%w: %s", errSourceMissing, record.Source)
		}
		if p.target, known = parts.Targets[record.Target]; !known {
			return fmt.Errorf("%w: %s", errTargetMissing, record.Target)
		}
		if _, covered := p.acks.Recent(fsm.RowRef{Mapping: record.Name}, p.revision()); !covered {
			return errNoMemory
		}
		return nil
	})
}

// mappingRecord gives the mapping, if it still is what the pass began with: half a table judged by one rule and half by another is no result.
func (p *pass) mappingRecord() (fsm.Mapping, error) {
	var m fsm.Mapping
	p.log.View(func(s *fsm.State) { m, _ = s.Mapping(p.logged.Mapping) })
	if m.Revision != p.logged.Revision {
		return m, &failure{fmt.Sprintf("mapping_changed: the pass began with revision %d, the mapping is now at %d; start another pass",
			p.logged.Revision, m.Revision)}
	}
	return m, nil
}

func compile(record fsm.Mapping) (*mapping.Mapping, error) {
	var spec mapping.Spec
	var columns []mapping.Column
	if err := json.Unmarshal(record.Spec, &spec); err != nil {
		return nil, &failure{"mapping_invalid: its specification cannot be read: " + err.Error()}
	}
	if err := json.Unmarshal(record.Columns, &columns); err != nil {
		return nil, &failure{"mapping_invalid: its columns cannot be read: " + err.Error()}
	}
	m, err := mapping.Compile(spec, record.Revision, columns)
	if err != nil {
		return nil, &failure{"mapping_invalid: " + err.Error()}
	}
	if !m.NeedsRow() {
		return nil, &failure{"not_comparable: the mapping only invalidates, so readers fill its keys and any value of a present row is right"}
	}
	return m, nil
}

// finish ends the pass in the log.
func (p *pass) finish(ctx context.Context, reason string) error {
	_, err := p.propose(ctx, fsm.FinishPass{ID: p.logged.ID, Reason: reason})
	return err
}

// propose repeats a command until its fate is known. That is safe for all that this package proposes: a checkpoint names the cursor that
// it continues, and a pass that has ended refuses everything.
func (p *pass) propose(ctx context.Context, command fsm.Command) (fsm.Result, error) {
	var answer fsm.Result
	err := p.retry(ctx, laneJudge, func() error {
		results, err := p.log.Propose(ctx, fsm.Op{Command: command})
		if err != nil {
			return fmt.Errorf("%w: %w", errLog, err)
		}
		answer = results[0]
		switch answer.Code {
		case fsm.CodeOutboxFull:
			return errOutboxFull
		case fsm.CodePassEnded, fsm.CodePassNotFound:
			return errEnded
		}
		return nil
	})
	return answer, err
}

// retry repeats f until it succeeds, fails for good, or ctx ends. What it waits for is visible in Progress.
func (p *pass) retry(ctx context.Context, l lane, f func() error) error {
	for attempt := 0; ; attempt++ {
		err := f()
		if err == nil {
			p.progress.wait(l, "")
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err = fatal(err); isFinal(err) {
			return err
		}
		if err := p.pause(ctx, l, attempt, err); err != nil {
			return err
		}
	}
}

// pause waits before the next attempt: doubling, capped, with jitter over its upper half. It logs a cause once, not each time.
func (p *pass) pause(ctx context.Context, l lane, attempt int, cause error) error {
	code := waitCode(cause)
	if p.progress.wait(l, code) {
		p.logger.Warn("pass waits", "waiting", code, "error", cause)
	}
	delay := p.config.RetryMax
	if attempt < 30 && p.config.RetryMin<<attempt < delay {
		delay = p.config.RetryMin << attempt
	}
	timer := time.NewTimer(delay/2 + rand.N(delay/2+1))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
