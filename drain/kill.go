package drain

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/quiescehq/quiesce/mysql"
)

var (
	// ErrTransactionNotFound means that no open transaction has the id, or that the source has no such name here.
	ErrTransactionNotFound = errors.New("no such transaction")
	// ErrSourceUnreachable means that the source does not answer, or that this node does not lead and so does not ask it.
	ErrSourceUnreachable = errors.New("source unreachable")
)

// endDoomed ends what the verdicts say, after the reader has looked again.
func (w *watcher) endDoomed(ctx context.Context, reading mysql.Reading) error {
	var doomed []*tracked
	for _, t := range w.oldest() {
		if t.verdict.kill && len(doomed) < killsAtOnceMax {
			doomed = append(doomed, t)
		}
	}
	if len(doomed) == 0 {
		return nil
	}
	seen := make([]mysql.Seen, len(doomed))
	for i, t := range doomed {
		seen[i] = mysql.Seen{Transaction: t.Transaction, Process: t.Process}
	}
	outcomes, err := w.reader.Kill(ctx, reading, seen)
	for i, t := range doomed {
		w.concluded(t, outcomes[i], t.verdict.cause)
	}
	return err
}

// concluded notes what became of an attempt; an outcome that is unknown is found out by the next reading.
func (w *watcher) concluded(t *tracked, outcome mysql.KillOutcome, cause string) {
	t.hitch = outcome
	switch outcome {
	case mysql.KillDone:
		w.task.killed[w.name].Add(1)
		t.ended = time.Now()
		t.verdict = wait("its connection was ended, %d rows are to be undone", t.RowsModified)
		w.countEnded(t)
		w.logger.Warn("a connection was ended", "thread", t.Thread, "trx", t.Trx, "age", t.Age, "user", t.User, "rows_modified", t.RowsModified,
			"instance", t.claim.instance, "reason", cause)
	case mysql.KillDenied:
		w.lacks(privilegeKill)
	}
}

// KillVerdict answers Kill.
type KillVerdict struct {
	Killed bool
	Detail string
}

type killRequest struct {
	thread uint64
	trx    string
	reason string
	answer chan killAnswer // has room for it
}

type killAnswer struct {
	verdict KillVerdict
	err     error
}

// TransactionID is how a transaction is called by people: source.thread.transaction.
func TransactionID(source string, thread uint64, trx string) string {
	return source + "." + strconv.FormatUint(thread, 10) + "." + trx
}

// parseID reads it from behind, for the name of a source may hold points.
func parseID(id string) (source string, thread uint64, trx string, ok bool) {
	last := strings.LastIndexByte(id, '.')
	if last < 0 {
		return "", 0, "", false
	}
	middle := strings.LastIndexByte(id[:last], '.')
	if middle < 0 {
		return "", 0, "", false
	}
	thread, err := strconv.ParseUint(id[middle+1:last], 10, 64)
	return id[:middle], thread, id[last+1:], err == nil
}

// Kill ends the connection of a transaction at an operator's wish, whatever the policy says, unless the connection is not in that
// transaction any more.
func (t *Task) Kill(ctx context.Context, id, reason string) (KillVerdict, error) {
	source, thread, trx, ok := parseID(id)
	if _, known := t.Sources[source]; !ok || !known {
		return KillVerdict{}, ErrTransactionNotFound
	}
	r := t.running()
	if r == nil {
		return KillVerdict{}, fmt.Errorf("%w: this node does not lead", ErrSourceUnreachable)
	}
	request := &killRequest{thread: thread, trx: trx, reason: reason, answer: make(chan killAnswer, 1)}
	select {
	case r.watchers[source].manual <- request:
	case <-r.ended:
		return KillVerdict{}, fmt.Errorf("%w: this node does not lead any more", ErrSourceUnreachable)
	case <-ctx.Done():
		return KillVerdict{}, context.Cause(ctx)
	}
	select {
	case answer := <-request.answer:
		return answer.verdict, answer.err
	case <-ctx.Done():
		return KillVerdict{}, context.Cause(ctx)
	}
}

func (w *watcher) killManually(ctx context.Context, request *killRequest) killAnswer {
	verdict, err := w.killOne(ctx, request)
	if err != nil && !errors.Is(err, ErrTransactionNotFound) {
		err = fmt.Errorf("%w: %s", ErrSourceUnreachable, reason(err))
	}
	return killAnswer{verdict, err}
}

func (w *watcher) killOne(ctx context.Context, request *killRequest) (KillVerdict, error) {
	reading, err := w.reader.Read(ctx, w.watch.Threshold)
	if err != nil {
		return KillVerdict{}, err
	}
	t := w.find(reading, request)
	if t == nil {
		return KillVerdict{}, ErrTransactionNotFound
	}
	processes, err := w.reader.Processes(ctx, []uint64{t.Thread})
	if err != nil {
		return KillVerdict{}, err
	}
	process, connected := processes[t.Thread]
	switch {
	case !connected || t.Thread == 0:
		return KillVerdict{Detail: "it has no connection that could be ended"}, nil
	case ofTheServer(process):
		return KillVerdict{Detail: "it belongs to the server itself"}, nil
	}
	t.Process = process
	outcomes, err := w.reader.Kill(ctx, reading, []mysql.Seen{{Transaction: t.Transaction, Process: process}})
	if err != nil {
		return KillVerdict{}, err
	}
	w.concluded(t, outcomes[0], "an operator: "+request.reason)
	w.poke()
	return KillVerdict{Killed: outcomes[0] == mysql.KillDone, Detail: manualDetail[outcomes[0]]}, nil
}

// find looks the transaction up, and has it tracked from then on.
func (w *watcher) find(reading mysql.Reading, request *killRequest) *tracked {
	for _, t := range reading.Transactions {
		if t.Thread == request.thread && t.Trx == request.trx {
			found := w.tracked[keyOf(t)]
			if found == nil {
				found = &tracked{}
				w.tracked[keyOf(t)] = found
			}
			found.Transaction = t
			return found
		}
	}
	return nil
}

var manualDetail = map[mysql.KillOutcome]string{
	mysql.KillDone:    "its connection was ended; its rollback is watched",
	mysql.KillOver:    "it is over",
	mysql.KillChanged: "its connection is in another transaction now, or is another one",
	mysql.KillRolling: "it is being undone already",
	mysql.KillDenied:  "the account lacks " + privilegeKill,
	mysql.KillUnsure:  "it could not be looked at again, for other readers freeze INNODB_TRX; nothing was done",
}
