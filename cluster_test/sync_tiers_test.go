package cluster_test

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/cluster_test/harness"
	"github.com/quiescehq/quiesce/cluster_test/services"
)

const duplicateKey = 1062

// tiers is a cluster whose nodes may use the quiesce tables, with the tables made as the command line prints them.
func tiers(t *testing.T) (*table, *cli) {
	t.Helper()
	place := services.Require(t)
	w := newTable(t, place.MySQLDSN, place.RedisAddr, place.Prefix)
	c := harness.Start(t, harness.Options{MySQL: place.MySQLDSN, Outbox: place.MySQLDSN, Redis: place.RedisAddr})
	q := newCLI(t, c)
	printed, _, _ := strings.Cut(q.must(t, 0, "sync", "tables"), "\n-- ")
	for statement := range strings.SplitSeq(printed, ";\n") {
		if strings.TrimSpace(statement) != "" {
			w.exec(statement)
		}
	}
	w.declare(c)
	return w, q
}

// change runs statements in one transaction and ends it.
func (w *table) change(commit bool, statements ...string) {
	w.t.Helper()
	tx, err := w.db.BeginTx(w.t.Context(), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, s := range statements {
		if _, err := tx.ExecContext(w.t.Context(), s); err != nil {
			w.t.Fatalf("%s: %v", s, err)
		}
	}
	end := tx.Rollback
	if commit {
		end = tx.Commit
	}
	if err := end(); err != nil {
		w.t.Fatal(err)
	}
}

// told are the outbox rows of one change of a row.
func told(id int64) string {
	return fmt.Sprintf(`INSERT INTO quiesce_outbox (mapping, pk) VALUES ('%s', '["%d"]'), ('%s', '["%d"]')`, mappingJSON, id, mappingHash, id)
}

// Rows of the outbox table reach the cache though the leader is killed in the middle, in the order of commits and not of ids, and what was rolled back changes nothing.
func TestSync_OutboxRowsReachTheCacheThoughTheLeaderIsKilled(t *testing.T) {
	w, _ := tiers(t)
	for id := range int64(rowsMax) {
		w.change(true, fmt.Sprintf("INSERT INTO items VALUES (%d, 'first', %d)", id, id), told(id))
		if id == rowsMax/3 {
			leader := w.c.Leader()
			leader.Kill()
			defer func() { leader.Start(); w.c.AwaitReady(leader); w.c.AwaitSameState() }()
		}
	}
	// This one gets its ids before the others and commits after them.
	slow, err := w.db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{told(7), "UPDATE items SET name = 'slow' WHERE id = 7"} {
		if _, err := slow.ExecContext(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	for id := range int64(rowsMax / 3) {
		if id != 7 {
			w.change(id%2 == 0, fmt.Sprintf("UPDATE items SET name = 'second' WHERE id = %d", id), told(id))
		}
	}
	w.awaitRelayed(2) // the slow one's are not to be seen
	if err := slow.Commit(); err != nil {
		t.Fatal(err)
	}
	w.awaitRelayed(0)
	w.settle(nil)
	if row := w.redisGet(w.key(7)); !strings.Contains(row, "slow") {
		t.Errorf("the key holds %s", row)
	}
}

// awaitRelayed waits until so many rows are in the outbox table, seen without regard to transactions.
func (w *table) awaitRelayed(left int) {
	w.t.Helper()
	harness.Eventually(w.t, settleMax, "the relay", func() error {
		var n int
		conn, err := w.db.Conn(w.t.Context())
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := conn.ExecContext(w.t.Context(), "SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED"); err != nil {
			return err
		}
		err = conn.QueryRowContext(w.t.Context(), "SELECT COUNT(*) FROM quiesce_outbox").Scan(&n)
		if _, back := conn.ExecContext(w.t.Context(), "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ"); back != nil {
			return back
		}
		if err == nil && n != left {
			err = fmt.Errorf("%w: %d rows are left, not %d; %+v", errOther, n, left, w.stats().Relays)
		}
		return err
	})
}

// Triggers tell the changes of whoever does not know of Quiesce.
func TestSync_TriggersTellEveryChange(t *testing.T) {
	w, q := tiers(t)
	for _, name := range []string{mappingJSON, mappingHash} {
		q.must(t, 0, "sync", "triggers", name, "--apply", "--dsn", w.dsn)
	}
	var rows []string
	for id := range rowsMax {
		rows = append(rows, fmt.Sprintf("(%d, 'row %d', %d)", id, id, id))
	}
	w.exec("INSERT INTO items VALUES " + strings.Join(rows, ", "))
	w.exec("UPDATE items SET name = 'even' WHERE id % 2 = 0")
	w.exec("UPDATE items SET id = id + 1000 WHERE id BETWEEN 10 AND 19")
	w.exec("DELETE FROM items WHERE id BETWEEN 20 AND 29")
	w.change(false, "UPDATE items SET name = 'never'")
	w.awaitRelayed(0)
	w.settle(nil)
	if moved := w.redisGet(w.key(1010)); !strings.Contains(moved, "even") {
		t.Errorf("the key of a row that moved holds %q", moved)
	}
}

// Prepared events: nobody says how the transactions ended, the leader that was told of them is killed, and the next one finds out.
func TestSync_PreparedEventsAreFoundOutByTheNextLeader(t *testing.T) {
	w, _ := tiers(t)
	for id := range int64(4) {
		w.exec("INSERT INTO items VALUES (?, 'first', ?)", id, id)
	}
	w.enqueueAll()
	w.settle(nil)
	var prepared [4]api.Prepared
	for id := range prepared {
		w.c.Must(harness.Request{Method: http.MethodPost, Path: "/v1/outbox/prepare", Body: api.PrepareEvents{Events: events(int64(id)).Events, TTLMs: 1_000}}, &prepared[id])
	}
	fenced := func(id int) *sql.Tx {
		tx, err := w.db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{fmt.Sprintf("INSERT INTO %s (id) VALUES ('%s')", prepared[id].Fence.Table, prepared[id].Fence.ID),
			fmt.Sprintf("UPDATE items SET name = 'prepared' WHERE id = %d", id)} {
			if _, err := tx.ExecContext(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
		return tx
	}
	committed, rolledBack, open := fenced(0), fenced(1), fenced(2)
	leader := w.c.Leader()
	leader.Kill()
	if err := errors.Join(committed.Commit(), rolledBack.Rollback()); err != nil {
		t.Fatal(err)
	}
	// The last one never began: when it does after all it is too late, and it is told so.
	w.awaitPrepared(1)
	_, err := w.db.ExecContext(t.Context(), "INSERT INTO "+prepared[3].Fence.Table+" (id) VALUES (?)", prepared[3].Fence.ID)
	var refused *driver.MySQLError
	if !errors.As(err, &refused) || refused.Number != duplicateKey {
		t.Errorf("a transaction that was taken for lost may begin: %v", err)
	}
	if err := open.Commit(); err != nil {
		t.Fatal(err)
	}
	w.awaitPrepared(0)
	w.settle(nil)
	for id, name := range []string{"prepared", "first", "prepared", "first"} {
		var row item
		if text := w.redisGet(w.key(int64(id))); json.Unmarshal([]byte(text), &row) != nil || row.Name != name {
			t.Errorf("row %d: the key holds %q", id, text)
		}
	}
	var end api.PreparedEnd
	w.c.Must(harness.Request{Method: http.MethodPost, Path: "/v1/outbox/prepared/" + prepared[0].ID + "/submit"}, &end)
	if end.State != api.PreparedOver {
		t.Errorf("a late submit is answered %q", end.State)
	}
	leader.Start()
	w.c.AwaitReady(leader)
	w.c.AwaitSameState()
}

// awaitPrepared waits until so many prepares are open.
func (w *table) awaitPrepared(want int) {
	w.t.Helper()
	harness.Eventually(w.t, settleMax, "the fences to be looked at", func() error {
		var list api.PreparedList
		w.c.Must(harness.Request{Method: http.MethodGet, Path: "/v1/outbox/prepared"}, &list)
		if len(list.Prepared) != want {
			return fmt.Errorf("%w: %d are open, not %d", errOther, len(list.Prepared), want)
		}
		return nil
	})
}

// An instance that dies with an open transaction of prepared events: the transaction goes with its connection, its fence tells, and the adoption says so.
func TestSync_LostInstancesPreparedEventsAreResolved(t *testing.T) {
	w, _ := tiers(t)
	w.exec("INSERT INTO items VALUES (0, 'first', 0)")
	a, err := enter(w.c, "preparing", "one", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var prepared api.Prepared
	w.c.Must(harness.Request{Method: http.MethodPost, Path: "/v1/outbox/prepare",
		Body: api.PrepareEvents{Events: events(0).Events, TTLMs: uint64(time.Hour.Milliseconds()), Instance: a.ID}}, &prepared)
	w.change(true, fmt.Sprintf("INSERT INTO quiesce_fence (id) VALUES ('%s')", prepared.Fence.ID), "UPDATE items SET name = 'last words' WHERE id = 0")
	b := watchInstances(t, w.c)
	lost, err := b.awaitOne(a.ID, "adopted to the end", settleMax, func(v api.Instance) bool {
		return len(v.Adoption) > 0 && v.Adoption[len(v.Adoption)-1].Step == "done"
	})
	if err != nil {
		t.Fatal(err)
	}
	resolved := false
	for _, s := range lost.Adoption {
		resolved = resolved || s.Step == "prepared" && strings.Contains(s.Detail, "are over")
	}
	if !resolved {
		t.Errorf("the steps are %+v", lost.Adoption)
	}
	w.settle(nil)
	if row := w.redisGet(w.key(0)); !strings.Contains(row, "last words") {
		t.Errorf("the key holds %q", row)
	}
}
