package drain

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/quiescehq/quiesce/mysql"
)

// Transaction is a long transaction, or one that is being ended, as this leader sees it.
type Transaction struct {
	ID, Source string
	mysql.Transaction
	mysql.Process
	Instance, InstanceName string
	Killed                 bool
	Verdict                string
}

// SourceStatus is the watch of one source.
type SourceStatus struct {
	Source    string
	Threshold time.Duration
	Policy    Policy
	Reachable bool
	Watched   bool     // the last reading came through
	Missing   []string // privileges
	Detail    string
	Killed    uint64        // connections that this process ended
	SeenAge   time.Duration // since the last reading; 0 when there was none
	Long      int           // transactions over the threshold
	Oldest    time.Duration // age of the oldest open transaction
}

// Status is all that this leader sees; nothing on a node that does not lead.
type Status struct {
	Transactions []Transaction // oldest first
	Sources      []SourceStatus
}

// Status shows the transactions and the watches.
func (t *Task) Status() Status {
	out := Status{Transactions: []Transaction{}, Sources: []SourceStatus{}}
	r := t.running()
	if r == nil {
		return out
	}
	for _, name := range slices.Sorted(maps.Keys(r.watchers)) {
		status, shown := r.watchers[name].snapshot()
		status.Killed = t.killed[name].Load()
		out.Sources = append(out.Sources, status)
		out.Transactions = append(out.Transactions, shown...)
	}
	slices.SortStableFunc(out.Transactions, func(a, b Transaction) int { return -cmp.Compare(a.Age, b.Age) })
	out.Transactions = out.Transactions[:min(len(out.Transactions), shownMax)]
	return out
}

func (w *watcher) snapshot() (SourceStatus, []Transaction) {
	w.mu.Lock()
	defer w.mu.Unlock()
	status := w.status
	status.Missing = slices.Sorted(maps.Keys(w.missing))
	if w.seenAt.IsZero() {
		return status, nil
	}
	status.SeenAge = time.Since(w.seenAt)
	shown := slices.Clone(w.shown)
	for i := range shown {
		shown[i].Age += status.SeenAge
	}
	return status, shown
}

// publish shows what the last reading and the verdicts came to.
func (w *watcher) publish(reading mysql.Reading) {
	var shown []Transaction
	long := 0
	for _, t := range w.oldest() {
		if t.long(w.watch.Threshold) {
			long++
		}
		if len(shown) < shownMax {
			shown = append(shown, Transaction{ID: TransactionID(w.name, t.Thread, t.Trx), Source: w.name, Transaction: t.Transaction, Process: t.Process,
				Instance: t.claim.instance, InstanceName: t.claim.name, Killed: !t.ended.IsZero(), Verdict: t.verdict.why})
		}
	}
	var oldest time.Duration
	if len(reading.Transactions) > 0 {
		oldest = reading.Transactions[0].Age
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shown, w.seenAt = shown, time.Now()
	w.status.Reachable, w.status.Watched, w.status.Detail, w.status.Long, w.status.Oldest = true, true, "", long, oldest
	if !reading.Whole {
		w.status.Detail = "more transactions are open than one reading shows: only the oldest are watched"
	}
}
