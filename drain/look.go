package drain

import (
	"context"
	"slices"
	"time"

	"github.com/quiescehq/quiesce/mysql"
)

// key tells a transaction from others over the readings of one source. Its own id is no part of it while it has a connection, for it gets
// another one with its first write.
type key struct {
	thread  uint64
	started int64
	trx     string
}

func keyOf(t mysql.Transaction) key {
	if t.Thread != 0 {
		return key{thread: t.Thread, started: t.StartedAt}
	}
	return key{started: t.StartedAt, trx: t.Trx}
}

// tracked is a transaction that is long, or to be ended, or that was.
type tracked struct {
	mysql.Transaction
	mysql.Process
	connected bool // the process list had it
	claim     claim
	claimed   bool

	verdict verdict
	ended   time.Time // when its connection was told to end; zero when it was not
	hitch   mysql.KillOutcome
	saidAt  time.Duration // age at which it was last logged
}

func (t *tracked) long(threshold time.Duration) bool { return t.Age >= threshold }

// take judges what a reading shows, and ends what is to end.
func (w *watcher) take(ctx context.Context, reading mysql.Reading) error {
	w.noteLife(reading)
	if err := w.lookAtGrants(ctx, reading); err != nil {
		return err
	}
	now := w.task.Log.Now()
	claims := w.roster.claims(w.name, threadsOf(reading), now)
	w.track(reading, claims)
	if err := w.lookUp(ctx); err != nil {
		return err
	}
	for _, t := range w.tracked {
		t.verdict = w.judge(t, reading, now)
	}
	w.tellLong()
	err := w.endDoomed(ctx, reading)
	w.publish(reading)
	return err
}

// track keeps those that are long, or that are to end, or that were ended.
func (w *watcher) track(reading mysql.Reading, claims map[uint64]claim) {
	next := map[key]*tracked{}
	w.partial = !reading.Whole
	for _, t := range reading.Transactions {
		c, claimed := claims[t.Thread]
		before := w.before(t)
		switch {
		case t.Age < w.watch.Threshold && c.doom == "" && (before == nil || before.ended.IsZero()):
		case len(next) == lookedUpMax:
			w.partial = true
		default:
			next[keyOf(t)] = w.renew(before, t, c, claimed)
		}
	}
	w.tellEnds(next)
	w.tracked = next
}

func threadsOf(reading mysql.Reading) map[uint64]bool {
	threads := make(map[uint64]bool, len(reading.Transactions))
	for _, t := range reading.Transactions {
		threads[t.Thread] = t.Thread != 0
	}
	return threads
}

// noteLife notes since when this leader knows that the server is in its present life.
func (w *watcher) noteLife(reading mysql.Reading) {
	if w.life != reading.Life {
		w.life, w.lifeSince = reading.Life, w.task.Log.Now()
	}
}

// before finds a transaction among those of the last reading. One that is undone may have lost its connection meanwhile.
func (w *watcher) before(t mysql.Transaction) *tracked {
	if had := w.tracked[keyOf(t)]; had != nil || t.Thread != 0 {
		return had
	}
	for _, had := range w.tracked {
		if !had.ended.IsZero() && had.Trx == t.Trx && had.StartedAt == t.StartedAt {
			return had
		}
	}
	return nil
}

func (w *watcher) renew(before *tracked, t mysql.Transaction, c claim, claimed bool) *tracked {
	renewed := &tracked{}
	if before != nil {
		*renewed = *before
	}
	renewed.Transaction = t
	if t.Thread != 0 {
		renewed.claim, renewed.claimed = c, claimed
	}
	return renewed
}

// lookUp reads the connections of what is tracked.
func (w *watcher) lookUp(ctx context.Context) error {
	var threads []uint64
	for _, t := range w.tracked {
		if t.Thread != 0 {
			threads = append(threads, t.Thread)
		}
	}
	if len(threads) == 0 {
		return nil
	}
	processes, err := w.reader.Processes(ctx, threads)
	if err != nil {
		return err
	}
	for _, t := range w.tracked {
		p, connected := processes[t.Thread]
		if t.connected = connected; connected {
			t.Process = p
		}
	}
	return nil
}

// oldest gives what is tracked, the oldest first.
func (w *watcher) oldest() []*tracked {
	list := make([]*tracked, 0, len(w.tracked))
	for _, t := range w.tracked {
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b *tracked) int {
		if a.StartedAt != b.StartedAt {
			return int(a.StartedAt - b.StartedAt)
		}
		return int(int64(a.Thread) - int64(b.Thread))
	})
	return list
}

// tellLong logs a transaction when it becomes long, and each time that its age has doubled.
func (w *watcher) tellLong() {
	lines, more := 0, 0
	for _, t := range w.oldest() {
		if !t.long(w.watch.Threshold) || t.saidAt != 0 && t.Age < 2*t.saidAt {
			continue
		}
		t.saidAt = t.Age
		if lines == linesAtOnceMax {
			more++
			continue
		}
		lines++
		w.logger.Warn("a transaction is open for long", "thread", t.Thread, "trx", t.Trx, "age", t.Age, "state", t.State, "user", t.User, "command", t.Command,
			"rows_modified", t.RowsModified, "statement", t.Statement, "instance", t.claim.instance, "verdict", t.verdict.why)
	}
	if more > 0 {
		w.logger.Warn("more transactions are open for long", "count", more)
	}
}

// tellEnds logs the end of what was ended.
func (w *watcher) tellEnds(next map[key]*tracked) {
	for k, t := range w.tracked {
		if t.ended.IsZero() || next[k] != nil {
			continue
		}
		moved := false
		for _, n := range next {
			moved = moved || n.Trx == t.Trx && n.StartedAt == t.StartedAt && n.ended.Equal(t.ended)
		}
		if !moved {
			w.logger.Info("the transaction of an ended connection is undone", "thread", t.Thread, "trx", t.Trx, "took", time.Since(t.ended))
		}
	}
}
