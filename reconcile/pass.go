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
	"golang.org/x/time/rate"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/mysql"
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
	part     mysql.Part
	examiner examiner // of judge alone
	source   Source
	target   Target

	brake  brake
	pace   *rate.Limiter // of this pass
	shared *rate.Limiter // of all passes of the leader

	// Of judge alone.
	logged   fsm.Pass  // as it stands in the replicated state
	saved    time.Time // of the last checkpoint
	window   window
	waiting  waiting
	samples  int    // differences kept to be shown, logged or on their way
	estimate uint64 // rows that there are to look at
}

// runPass runs one pass until it has ended or ctx has. Errors do not come out: they are waited out, or become the pass's reason.
func (t *Task) runPass(ctx context.Context, record fsm.Pass) {
	shown, done := t.track(record)
	defer done()
	logger := t.Logger.With("pass", record.ID, "mapping", record.Mapping)
	logger.Info("pass runs", "mode", record.Mode, "cursor", record.Cursor)
	for attempt := 0; ; attempt++ {
		p := &pass{config: t.config, log: t.Log, acks: t.Acknowledged, relays: t.Relays, logger: logger, progress: shown, logged: record, saved: time.Now(),
			pace: newLimiter(record.RateMax), shared: t.shared}
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
	if err == nil && p.logged.Phase == fsm.PassRows && p.comparesRows() {
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
	p.estimateRows(ctx)
	group, ctx := errgroup.WithContext(ctx)
	chunks := make(chan chunk)
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
	if err := p.suits(); err != nil {
		return err
	}
	if p.part, err = partOf(p.logged); err != nil {
		return err
	}
	p.examiner = newExaminer(p.mapping, p.logged.Fill)
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
	return m, nil
}

// comparesRows tells whether the rows say anything about their keys. Where a mapping only invalidates they do not: only mode invalidate goes over them, and removes what nobody can vouch for.
func (p *pass) comparesRows() bool {
	return p.mapping.NeedsRow() || p.logged.Mode == fsm.PassInvalidate
}

// suits refuses what a pass of this kind cannot do with the mapping.
func (p *pass) suits() error {
	switch {
	case !p.comparesRows() && !p.logged.Extras:
		return &failure{"not_comparable: the mapping only invalidates, so readers fill its keys and any value of a present row is right"}
	case p.logged.Fill && p.mapping.Spec().Mode != mapping.WriteThrough:
		return &failure{"not_fillable: in mode " + string(p.mapping.Spec().Mode) + " readers decide what is cached, and nothing is written where there is no key"}
	}
	return nil
}

// estimateRows asks once in a pass how many rows there are, to tell how long it takes. Nothing depends on it.
func (p *pass) estimateRows(ctx context.Context) {
	if p.estimate = p.logged.Estimate; p.estimate == 0 {
		rows, err := p.source.EstimateRows(ctx, p.mapping, p.part)
		if err != nil {
			p.logger.Info("the number of rows is not known", "error", err)
		}
		p.estimate = rows
	}
	p.progress.begin(p.logged.Counts.Rows, p.estimate)
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
	err := p.retry(ctx, laneJudge, func() (err error) {
		answer, err = p.proposeOnce(ctx, command)
		return err
	})
	return answer, err
}

func (p *pass) proposeOnce(ctx context.Context, command fsm.Command) (fsm.Result, error) {
	results, err := p.log.Propose(ctx, fsm.Op{Command: command})
	if err != nil {
		return fsm.Result{}, fmt.Errorf("%w: %w", errLog, err)
	}
	switch results[0].Code {
	case fsm.CodeOutboxFull:
		return results[0], errOutboxFull
	case fsm.CodePassEnded, fsm.CodePassNotFound:
		return results[0], errEnded
	}
	return results[0], nil
}

// hold has the pass wait for an approval, and ends its work here. A proposal whose answer was lost is not repeated once somebody has approved: the pass would be held again for what it was
// allowed.
func (p *pass) hold(ctx context.Context, hold fsm.PassHold, reason string) error {
	approved := false
	err := p.retry(ctx, laneJudge, func() error {
		var now fsm.Pass
		p.log.View(func(s *fsm.State) { now, _ = s.Pass(p.logged.ID) })
		if approved = now.Cap != p.logged.Cap || now.Removals != p.logged.Removals; approved {
			return nil
		}
		_, err := p.proposeOnce(ctx, fsm.HoldPass{ID: p.logged.ID, Hold: hold, Reason: reason})
		return err
	})
	switch {
	case err != nil:
		return err
	case approved:
		return errMoved
	}
	return errHeld
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
