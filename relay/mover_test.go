package relay_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mysql"
	"github.com/quiescehq/quiesce/relay"
)

func TestRelay_RowsBecomeEventsAndLeaveTheTable(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.insert(`["1"]`)
	w.insert(`["1"]`)
	w.exec("INSERT INTO quiesce_outbox (mapping, old_key, new_key) VALUES (?, ?, ?)", mappingName, `["a"]`, `["b"]`)
	w.exec("INSERT INTO quiesce_outbox (mapping, new_key) VALUES (?, ?)", mappingName, `[null]`) // names nothing, and is no mistake
	w.start()
	w.until("the table is empty", func() bool { return w.rows() == 0 && w.status().Relayed == 4 })
	for _, pk := range []string{`["1"]`, `["a"]`, `["b"]`} {
		if _, ok := w.log.event(mappingName, pk); !ok {
			t.Errorf("no event of %s", pk)
		}
	}
	if n := w.log.pending(); n != 3 {
		t.Errorf("%d events are pending, want 3", n)
	}
	s := w.status()
	if s.State != relay.StateRunning || s.Refused != 0 || !s.Running {
		t.Errorf("status %+v", s)
	}
	w.until("the end of the table was seen", func() bool { return w.status().Drained >= 0 })
}

// The first transaction takes its id first and commits last.
func TestRelay_RowWithALowerIDThatCommitsLaterIsRelayed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	slow := w.begin()
	slow.insert(`["slow"]`)
	w.insert(`["fast"]`)
	w.start()
	w.until("the row that was committed first is relayed", func() bool { _, ok := w.log.event(mappingName, `["fast"]`); return ok && w.status().Relayed == 1 })
	slow.commit()
	w.until("so is the one that came late", func() bool { _, ok := w.log.event(mappingName, `["slow"]`); return ok })
}

// The control of the test before: what a relay with a cursor does.
func TestGap_CursorLosesWhatCommitsLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	slow := w.begin()
	slow.insert(`["slow"]`)
	w.insert(`["fast"]`)
	cursor, seen := 0, 0
	read := func() {
		rows, err := w.db.Query("SELECT id FROM quiesce_outbox WHERE id > ? ORDER BY id", cursor)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			seen++
			if err := rows.Scan(&cursor); err != nil {
				t.Fatal(err)
			}
		}
	}
	read()
	slow.commit()
	read()
	if all := w.rows(); all != 2 || seen != 1 {
		t.Errorf("the cursor saw %d rows of %d; if it saw all, the test before shows nothing", seen, all)
	}
}

func TestRelay_CrashBetweenLogAndDeleteRelaysTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	honest := w.source
	w.source = deleteFails{Source: honest}
	w.insert(`["1"]`)
	stop := w.start()
	w.until("the deletion failed", func() bool { return w.status().State == relay.StateFailing })
	stop()
	before, ok := w.log.event(mappingName, `["1"]`)
	if !ok || w.rows() != 1 {
		t.Fatalf("event %v, %d rows; want the event in the log and the row in the table", ok, w.rows())
	}
	w.task, w.source = nil, honest // another process leads
	w.start()
	w.until("the row is gone", func() bool { return w.rows() == 0 })
	if after, ok := w.log.event(mappingName, `["1"]`); !ok || after.Token <= before.Token {
		t.Errorf("event %+v after %+v: want it relayed again, with a new token", after, before)
	}
}

// While rows cannot be deleted they are not relayed over and over by the same leader.
func TestRelay_RowsThatCannotBeDeletedAreRelayedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var entries atomic.Int32
	w.log.stand(func(_ context.Context, _ fsm.Command, apply func() fsm.Result) ([]fsm.Result, error) {
		entries.Add(1)
		return []fsm.Result{apply()}, nil
	})
	failing := deleteFails{Source: w.source, times: new(atomic.Int32)}
	failing.times.Store(5)
	w.source = failing
	w.insert(`["1"]`)
	w.start()
	w.until("the row is gone at last", func() bool { return w.rows() == 0 })
	if n := entries.Load(); n != 1 {
		t.Errorf("%d entries for one row", n)
	}
	if n := strings.Count(w.said.String(), "level=WARN"); n != 1 {
		t.Errorf("the failure was told %d times, want once:\n%s", n, w.said)
	}
}

func TestRelay_LostAnswerOfTheLogRelaysTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var entries atomic.Int32
	w.log.stand(func(_ context.Context, _ fsm.Command, apply func() fsm.Result) ([]fsm.Result, error) {
		switch entries.Add(1) {
		case 1:
			return nil, errOutcomeUnknown // and not applied
		case 2:
			apply()
			return nil, errOutcomeUnknown
		}
		return []fsm.Result{apply()}, nil
	})
	w.insert(`["1"]`)
	w.start()
	w.until("the row is gone", func() bool { return w.rows() == 0 })
	if _, ok := w.log.event(mappingName, `["1"]`); !ok || entries.Load() != 3 {
		t.Errorf("event %v after %d entries, want it after 3", ok, entries.Load())
	}
}

func TestRelay_RowsThatCannotBeAcceptedAreSetAside(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bad := []struct{ mapping, pk, reason string }{
		{"unknown", `["1"]`, "no such mapping"},
		{mappingName, `["wrong"]`, "part 0 is wrong"},
		{mappingName, `{"id": 1}`, "no JSON array"},
		{mappingName, `[]`, "no JSON array"},
		{mappingName, `["1"`, "no JSON array"},
		{mappingName, `["` + strings.Repeat("x", 600) + `"]`, "longer than 512"},
		{mappingName, `["` + strings.Repeat("x", 20_000) + `"]`, "more than 8192"},
	}
	for _, b := range bad {
		w.exec("INSERT INTO quiesce_outbox (mapping, pk) VALUES (?, ?)", b.mapping, b.pk)
	}
	w.exec("INSERT INTO quiesce_outbox (mapping) VALUES (?)", mappingName)
	w.insert(`["good"]`)
	w.start()
	w.until("the table is empty", func() bool { return w.rows() == 0 })
	if _, ok := w.log.event(mappingName, `["good"]`); !ok || w.log.pending() != 1 {
		t.Errorf("the good row's event: %v, %d pending", ok, w.log.pending())
	}
	for i, b := range bad {
		if n := w.number("SELECT COUNT(*) FROM quiesce_refused WHERE id = ? AND mapping = ? AND pk = ? AND reason LIKE ?", i+1, b.mapping, b.pk, "%"+b.reason+"%"); n != 1 {
			t.Errorf("row %d (%.40s): %d refused with reason %q", i+1, b.pk, n, b.reason)
		}
	}
	if n := w.number("SELECT COUNT(*) FROM quiesce_refused"); n != len(bad)+1 {
		t.Errorf("%d rows refused, want %d", n, len(bad)+1)
	}
	w.until("they are counted", func() bool { return w.status().Refused == uint64(len(bad)+1) })
	if !strings.Contains(w.said.String(), "quiesce_refused") {
		t.Error("nothing was logged")
	}
}

func TestRelay_MappingThatThisVersionCannotUseLosesNoRows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mapper = testMapper{broken: true}
	w.insert(`["1"]`)
	stop := w.start()
	w.until("the relay fails", func() bool { return w.status().State == relay.StateFailing })
	stop()
	if n := w.number("SELECT COUNT(*) FROM quiesce_refused"); n != 0 || w.rows() != 1 {
		t.Errorf("%d rows refused, %d left; want 0 and 1", n, w.rows())
	}
}

func TestRelay_FullOutboxLeavesRowsInMySQL(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var room atomic.Int32
	var largest atomic.Int32
	w.log.stand(func(_ context.Context, command fsm.Command, apply func() fsm.Result) ([]fsm.Result, error) {
		n := int32(len(command.(fsm.EnqueueEvents).Events))
		if n > room.Load() {
			return []fsm.Result{{Code: fsm.CodeOutboxFull}}, nil
		}
		largest.Store(max(largest.Load(), n))
		return []fsm.Result{apply()}, nil
	})
	for i := range 40 {
		w.insert(fmt.Sprintf(`["%d"]`, i))
	}
	w.start()
	w.until("the outbox is full", func() bool { return w.status().State == relay.StateFull })
	if w.rows() != 40 || w.log.pending() != 0 {
		t.Fatalf("%d rows and %d events while the outbox is full, want 40 and 0", w.rows(), w.log.pending())
	}
	room.Store(10) // a batch does not fit, a part of it does
	w.until("the table is empty", func() bool { return w.rows() == 0 })
	if w.log.pending() != 40 || largest.Load() > 10 {
		t.Errorf("%d events, entries of up to %d", w.log.pending(), largest.Load())
	}
}

func TestRelay_PausedReadsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	counting := &countsReads{Source: w.source}
	w.source = counting
	w.log.must(t, fsm.PauseOutbox{Scope: fsm.PauseSource, Name: sourceName})
	w.insert(`["1"]`)
	w.start()
	w.until("it is paused", func() bool { return w.status().State == relay.StatePaused })
	w.task.Nudge(sourceName)
	if n := counting.reads.Load(); n != 0 {
		t.Errorf("%d readings while paused", n)
	}
	w.log.must(t, fsm.ResumeOutbox{Scope: fsm.PauseSource, Name: sourceName})
	w.until("the row is relayed", func() bool { return w.rows() == 0 })
}

func TestRelay_NudgeReadsAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cfg.PollMin, w.cfg.PollMax = time.Minute, time.Minute // settleTimeout is no longer: nothing is relayed in time without a nudge
	counting := &countsReads{Source: w.source}
	w.source = counting
	w.start()
	w.until("the first reading", func() bool { return w.status().Drained >= 0 })
	w.insert(`["1"]`)
	if !w.task.Nudge(sourceName) || w.task.Nudge("other") {
		t.Error("a nudge tells whether there is such a relay")
	}
	w.until("the row is relayed", func() bool { return w.rows() == 0 })
	if n := counting.reads.Load(); n > 3 {
		t.Errorf("%d readings", n)
	}
}

func TestRelay_MissingTablesAreToldOnceUntilTheyAreThere(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	w.start()
	w.until("the relay fails", func() bool { return w.status().State == relay.StateFailing })
	if d := w.status().Detail; !strings.Contains(d, "quiesce sync tables") {
		t.Errorf("detail %q names no remedy", d)
	}
	w.makeTables()
	w.insert(`["1"]`)
	w.until("the row is relayed", func() bool { return w.rows() == 0 && w.status().State == relay.StateRunning })
	if n := strings.Count(w.said.String(), "rows of the outbox table are not relayed\""); n > 1 {
		t.Errorf("told %d times:\n%s", n, w.said)
	}
}

// The application must not feel a coordinator that is slow. If the relay held a lock while it waits for the log, an insert would wait for it.
func TestRelay_ApplicationInsertsWhileTheLogIsBlocked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	asked, release := make(chan struct{}), make(chan struct{})
	w.log.stand(func(ctx context.Context, _ fsm.Command, apply func() fsm.Result) ([]fsm.Result, error) {
		select {
		case asked <- struct{}{}:
		case <-release:
		}
		<-release
		return []fsm.Result{apply()}, nil
	})
	w.insert(`["1"]`)
	w.start()
	<-asked
	conn, err := w.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := insertWhile(t.Context(), conn, 100); err != nil {
		t.Errorf("an insert while the log is blocked: %v", err)
	}
	if _, err := conn.ExecContext(t.Context(), "UPDATE quiesce_outbox SET created_at = created_at + INTERVAL 1 SECOND"); err != nil {
		t.Errorf("the relay holds a lock on a row: %v", err)
	}
	close(release)
	w.until("the table is empty", func() bool { return w.rows() == 0 })
}

// The control of the test before: a relay that locks what it reads.
func TestLock_LockingReaderHoldsUpTheApplication(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.insert(`["1"]`)
	tx, err := w.db.BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec("SELECT id FROM quiesce_outbox ORDER BY id LIMIT 1000 FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	conn, err := w.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := insertWhile(t.Context(), conn, 1); err == nil {
		t.Error("a locking reader held up nobody, so the test before shows nothing")
	}
}

// insertWhile inserts as an application that waits for no lock longer than a second.
func insertWhile(ctx context.Context, conn *sql.Conn, n int) error {
	if _, err := conn.ExecContext(ctx, "SET SESSION innodb_lock_wait_timeout = 1"); err != nil {
		return err
	}
	for i := range n {
		if _, err := conn.ExecContext(ctx, "INSERT INTO quiesce_outbox (mapping, pk) VALUES (?, ?)", mappingName, fmt.Sprintf(`["while-%d"]`, i)); err != nil {
			return err
		}
	}
	return nil
}

func TestRelay_GiantTransactionGoesInBatches(t *testing.T) {
	t.Parallel()
	const rows = 30_000
	w := newWorld(t)
	var largest atomic.Int32
	var progress atomic.Int32
	w.log.stand(func(_ context.Context, command fsm.Command, apply func() fsm.Result) ([]fsm.Result, error) {
		largest.Store(max(largest.Load(), int32(len(command.(fsm.EnqueueEvents).Events))))
		if s := w.status(); s.Relayed > 0 && s.Oldest > 0 {
			progress.Add(1)
		}
		return []fsm.Result{apply()}, nil
	})
	w.insertMany(rows)
	w.start()
	w.until("all is relayed", func() bool { return w.status().Relayed == rows })
	if w.log.pending() != rows || largest.Load() > int32(w.cfg.RowsMax) {
		t.Errorf("%d events, entries of up to %d rows", w.log.pending(), largest.Load())
	}
	if progress.Load() < rows/int32(w.cfg.RowsMax)-2 {
		t.Errorf("progress was visible %d times", progress.Load())
	}
}

// insertMany writes rows in one transaction.
func (w *world) insertMany(rows int) {
	w.Helper()
	tx := w.begin()
	const atOnce = 5_000
	for from := 0; from < rows; from += atOnce {
		var values []string
		for i := from; i < min(from+atOnce, rows); i++ {
			values = append(values, fmt.Sprintf(`('%s','["%d"]')`, mappingName, i))
		}
		tx.exec("INSERT INTO quiesce_outbox (mapping, pk) VALUES " + strings.Join(values, ","))
	}
	tx.commit()
}

func TestDrained_SaysYesOnlyAfterWhatWasVisibleIsInTheLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	asked, release := make(chan struct{}, 1), make(chan struct{})
	w.log.stand(func(_ context.Context, _ fsm.Command, apply func() fsm.Result) ([]fsm.Result, error) {
		select {
		case asked <- struct{}{}:
		default:
		}
		<-release
		return []fsm.Result{apply()}, nil
	})
	w.start()
	first := w.task.Mark(sourceName)
	w.until("an empty table is drained", func() bool { return w.task.Drained(sourceName, first) })
	w.insert(`["1"]`)
	mark := w.task.Mark(sourceName)
	<-asked
	if w.task.Drained(sourceName, mark) {
		t.Error("drained before the log has the row")
	}
	close(release)
	w.until("drained", func() bool { return w.task.Drained(sourceName, mark) })
	if _, ok := w.log.event(mappingName, `["1"]`); !ok {
		t.Error("drained, and the row is not in the log")
	}
	if !w.task.Drained("without a relay", 7) {
		t.Error("a source without a relay has nothing to be drained")
	}
}

// A reading that is full says nothing about what is behind it.
func TestDrained_FullBatchIsNotTheEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cfg.RowsMax = 10
	var early atomic.Bool
	var mark atomic.Uint64
	w.insertMany(30)
	w.log.stand(func(_ context.Context, _ fsm.Command, apply func() fsm.Result) ([]fsm.Result, error) {
		early.Store(early.Load() || w.task.Drained(sourceName, mark.Load()))
		return []fsm.Result{apply()}, nil
	})
	w.start()
	w.until("drained", func() bool { return w.task.Drained(sourceName, 0) })
	if early.Load() || w.log.pending() != 30 {
		t.Errorf("drained early: %v; %d events, want 30", early.Load(), w.log.pending())
	}
}

func TestConfig_RefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*relay.Config){
		"no rows":       func(c *relay.Config) { c.RowsMax = 0 },
		"rows":          func(c *relay.Config) { c.RowsMax = mysql.OutboxRowsMax + 1 },
		"poll":          func(c *relay.Config) { c.PollMax = c.PollMin - 1 },
		"hot poll":      func(c *relay.Config) { c.PollMin = 0 },
		"full":          func(c *relay.Config) { c.FullWait = 0 },
		"retry":         func(c *relay.Config) { c.RetryMin = 0 },
		"probes":        func(c *relay.Config) { c.ProbesAtOnce = 0 },
		"open":          func(c *relay.Config) { c.OpenMax = 0 },
		"purge":         func(c *relay.Config) { c.PurgeEvery = 0 },
		"transactions":  func(c *relay.Config) { c.TransactionMax = time.Second },
		"propose":       func(c *relay.Config) { c.ProposeTimeout = 0 },
		"committed age": func(c *relay.Config) { c.CommittedAfter = 0 },
	} {
		c := relay.Default()
		spoil(&c)
		if err := c.Validate(); !errors.Is(err, relay.ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := relay.Default().Validate(); err != nil {
		t.Errorf("the default: %v", err)
	}
}

// countsReads counts the readings of the table.
type countsReads struct {
	relay.Source
	reads atomic.Int32
}

func (c *countsReads) Read(ctx context.Context, limit int) (mysql.OutboxBatch, error) {
	c.reads.Add(1)
	return c.Source.Read(ctx, limit)
}

// deleteFails is a source whose rows cannot be deleted: so many times, or always.
type deleteFails struct {
	relay.Source
	times *atomic.Int32
}

func (d deleteFails) Delete(ctx context.Context, ids []uint64) error {
	if d.times != nil && d.times.Add(-1) < 0 {
		return d.Source.Delete(ctx, ids)
	}
	return mysql.ErrUnreachable
}

// transaction is one of the application.
type transaction struct {
	w  *world
	tx *sql.Tx
}

func (w *world) begin() transaction {
	w.Helper()
	tx, err := w.db.BeginTx(context.Background(), nil)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { tx.Rollback() })
	return transaction{w: w, tx: tx}
}

func (x transaction) exec(statement string, args ...any) {
	x.w.Helper()
	if _, err := x.tx.Exec(statement, args...); err != nil {
		x.w.Fatalf("%.100s: %v", statement, err)
	}
}

func (x transaction) insert(pk string) {
	x.w.Helper()
	x.exec("INSERT INTO quiesce_outbox (mapping, pk) VALUES (?, ?)", mappingName, pk)
}

func (x transaction) commit() {
	x.w.Helper()
	if err := x.tx.Commit(); err != nil {
		x.w.Fatal(err)
	}
}
