package writer

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/quiescehq/quiesce/client"
	"github.com/quiescehq/quiesce/cluster_test/syncchaos/ledger"
)

// In a hundred.
const (
	chanceDoomed    = 8  // of transactions: rolled back on purpose
	chanceForget    = 1  // of commits of tier 1: nobody is told
	chanceLater     = 30 // of those that are told: in the background
	chanceByHand    = 40 // of prepared events: step by step, else by InTx
	chanceUnsaid    = 40 // of endings by hand: not told
	chanceUnfenced  = 5  // of preparations by hand: the transaction never begins
	chanceFirst     = 50 // of tier 3: the event is written before the row
	chanceNoNudge   = 30
	chanceLingering = 10 // of transactions: stays open for a while
	chanceLong      = 5  // of those by hand: for so long that the coordinator looks before it is over
)

const (
	gapMax    = 12 * time.Millisecond // between a commit and its call: in which the process may be killed
	lingerMax = 300 * time.Millisecond
	lateMax   = 1500 * time.Millisecond // before its fence, of prepared ones: some come too late
	longMax   = 4 * time.Second         // after it: some are open when the coordinator looks, and when it has waited
	ttl       = time.Second
)

// errDoomed rolls a transaction back on purpose.
var errDoomed = errors.New("rolled back on purpose")

// lane changes rows of one tier, one after the other.
type lane struct {
	*app
	tier int
	way  func(l *lane, ctx context.Context, p plan, doomed bool)
	rng  *rand.Rand
}

func (l *lane) dice(hundredths int) bool { return l.rng.IntN(100) < hundredths }

func (l *lane) some(limit time.Duration) time.Duration {
	return time.Duration(l.rng.Int64N(int64(limit)))
}

// run ends with ctx. What is begun is brought to its end, as a queue's reader does.
func (l *lane) run(ctx context.Context) error {
	for pause(ctx, paceMin+l.some(paceMax-paceMin)) == nil {
		work, cancel := context.WithTimeout(context.WithoutCancel(ctx), operationMax)
		if err := l.once(work); err != nil {
			_ = pause(ctx, afterError)
		}
		cancel()
	}
	return ctx.Err()
}

func (l *lane) once(ctx context.Context) error {
	p, err := newPlan(ctx, l.plain, l.rng, l.tier)
	if err != nil {
		return err
	}
	doomed := l.dice(chanceDoomed)
	p.serial = fmt.Sprintf("%s.%d", l.life, l.serial.Add(1))
	if doomed {
		p.serial = DoomedPrefix + p.serial
	}
	l.note(ledger.Line{Op: ledger.Intent, Serial: p.serial, Tier: l.tier, Doomed: doomed})
	l.way(l, ctx, p, doomed)
	return nil
}

// work makes the change in a transaction.
func (l *lane) work(ctx context.Context, tx client.Execer, p plan, doomed bool) error {
	if err := p.apply(ctx, tx, l.rng); err != nil {
		return err
	}
	if l.dice(chanceLingering) {
		_ = pause(ctx, l.some(lingerMax))
	}
	if doomed {
		return errDoomed
	}
	return nil
}

type beginner interface {
	BeginTx(ctx context.Context, opts *sql.TxOptions) (*sql.Tx, error)
}

// transact runs work in a transaction and notes what became of it: of unknown ends alone committed is false though it may be.
func (l *lane) transact(ctx context.Context, db beginner, p plan, work func(tx *sql.Tx) error) (committed, unknown bool) {
	tx, err := db.BeginTx(ctx, nil)
	if err == nil {
		if err = work(tx); err != nil {
			_ = tx.Rollback() // what cannot be rolled back ends with its connection
		} else if err = tx.Commit(); err != nil && !errors.Is(err, client.ErrCutOff) {
			l.note(ledger.Line{Op: ledger.Unknown, Serial: p.serial})
			return false, true
		}
	}
	if err != nil {
		l.note(ledger.Line{Op: ledger.RolledBack, Serial: p.serial})
		return false, false
	}
	l.note(ledger.Line{Op: ledger.Committed, Serial: p.serial})
	return true, false
}

// called is tier 1: the coordinator is told after the commit.
func (l *lane) called(ctx context.Context, p plan, doomed bool) {
	committed, unknown := l.transact(ctx, l.db, p, func(tx *sql.Tx) error { return l.work(ctx, tx, p, doomed) })
	if !committed && !unknown {
		return
	}
	_ = pause(ctx, l.some(gapMax))
	if l.dice(chanceForget) {
		l.note(ledger.Line{Op: ledger.Forgotten, Serial: p.serial})
		return
	}
	if l.dice(chanceLater) {
		if l.sync.EnqueueLater(p.changes()...) == nil {
			l.keep(ledger.Later, p.serial)
		}
		return
	}
	switch tokens, err := l.sync.Enqueue(ctx, p.changes()...); {
	case err == nil:
		l.accepted(p, tokens)
	case errors.Is(err, client.ErrKept):
		l.keep(ledger.Kept, p.serial)
	}
}

// accepted notes the tokens, which come in the order of the changes.
func (l *lane) accepted(p plan, tokens []client.EventToken) {
	line := ledger.Line{Op: ledger.Accepted, Serial: p.serial}
	for i, c := range p.changes() {
		if i >= len(tokens) {
			break
		}
		e := ledger.Event{Mapping: c.Mapping, Token: tokens[i].Token}
		switch {
		case c.PK != nil:
			e.PK = fmt.Sprint(c.PK)
		case c.NewKey != nil:
			e.Key = fmt.Sprint(c.NewKey)
		default:
			e.Key = fmt.Sprint(c.OldKey)
		}
		line.Events = append(line.Events, e)
	}
	l.note(line)
}

// prepared is tier 2: the coordinator is told before the transaction, and finds out how it ended if nobody says so.
func (l *lane) prepared(ctx context.Context, p plan, doomed bool) {
	if l.dice(chanceByHand) {
		l.byHand(ctx, p, doomed)
		return
	}
	tokens, err := l.InTx(ctx, l.db, p.changes(), func(tx *sql.Tx) error { return l.work(ctx, tx, p, doomed) }, client.PrepareTTL(ttl))
	switch {
	case errors.Is(err, client.ErrCommitUnknown):
		l.note(ledger.Line{Op: ledger.Unknown, Serial: p.serial})
	case err != nil:
		l.note(ledger.Line{Op: ledger.RolledBack, Serial: p.serial})
	default:
		l.note(ledger.Line{Op: ledger.Committed, Serial: p.serial})
		if len(tokens) > 0 {
			l.accepted(p, tokens)
		}
	}
}

func (l *lane) byHand(ctx context.Context, p plan, doomed bool) {
	announced, err := l.Prepare(ctx, p.changes(), client.PrepareTTL(ttl))
	if err != nil || l.dice(chanceUnfenced) {
		l.note(ledger.Line{Op: ledger.RolledBack, Serial: p.serial})
		return
	}
	if l.dice(chanceLingering) {
		_ = pause(ctx, l.some(lateMax)) // perhaps too late for its fence
	}
	long := l.dice(chanceLong)
	committed, unknown := l.transact(ctx, l.db, p, func(tx *sql.Tx) error {
		if err := announced.Fence(ctx, tx); err != nil {
			return err
		}
		if err := l.work(ctx, tx, p, doomed); err != nil || !long {
			return err
		}
		return pause(ctx, ttl+l.some(longMax-ttl))
	})
	switch {
	case unknown:
	case long || l.dice(chanceUnsaid):
		l.note(ledger.Line{Op: ledger.Forgotten, Serial: p.serial})
	case committed:
		if tokens, err := announced.Submit(ctx); err == nil && len(tokens) > 0 {
			l.accepted(p, tokens)
		}
	default:
		_ = announced.Cancel(ctx) // else the coordinator finds out
	}
}

// outbox is tier 3: the event is a row of the same transaction.
func (l *lane) outbox(ctx context.Context, p plan, doomed bool) {
	told := func() {}
	committed, _ := l.transact(ctx, l.db, p, func(tx *sql.Tx) (err error) {
		first := l.dice(chanceFirst)
		if first {
			told, err = l.EnqueueTx(ctx, tx, Source, p.changes()...)
		}
		if err == nil {
			err = l.work(ctx, tx, p, doomed)
		}
		if err == nil && !first {
			told, err = l.EnqueueTx(ctx, tx, Source, p.changes()...)
		}
		return err
	})
	if committed && !l.dice(chanceNoNudge) {
		told()
	}
}

// triggered is tier 4: the application knows nothing of events.
func (l *lane) triggered(ctx context.Context, p plan, doomed bool) {
	l.transact(ctx, l.plain, p, func(tx *sql.Tx) error { return l.work(ctx, tx, p, doomed) })
}
