package outbox_test

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	driver "github.com/go-sql-driver/mysql"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/outbox"
)

const errOptionPrevents = 1290 // The MariaDB server is running with the --read-only option

// application is an account without the privileges that read_only spares.
func (w *world) application(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	const password = "app-of-a-test"
	w.exec(t, "CREATE USER app IDENTIFIED BY '"+password+"'")
	config, err := driver.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	w.exec(t, "GRANT SELECT, INSERT, UPDATE, DELETE ON "+config.DBName+".* TO app")
	config.User, config.Passwd = "app", password
	db, err := sql.Open("mysql", config.FormatDSN())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAll(t, db.Close) })
	return db
}

// A planned switch: the primary is set to read_only while writers and deliveries run. From then on it may be a replica that lags, and nothing that is read from it is believed,
// least of all that a row is gone. Later a primary answers at the same address.
func TestSwitch_ReadOnlyUnderLoadHoldsDeliveryAndLosesNothing(t *testing.T) {
	t.Parallel()
	const count = 200
	w, servers := owned(t)
	app := w.application(t, servers.MySQLDSN)
	w.fill(t, count)
	task := w.task(t)
	lead(t, task)
	w.enqueueAll(t, count)
	w.drained(t)
	stopWatching := watchGuards(t, w, 3)

	ctx, cancel := context.WithCancel(t.Context())
	var commits, refused atomic.Int64
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	for range 3 {
		group.Go(func() {
			for ctx.Err() == nil {
				id := 1 + rand.IntN(count)
				statement := "UPDATE items SET v = '" + strconv.FormatUint(rand.Uint64(), 36) + "', n = n + 1 WHERE id = ?"
				switch rand.IntN(8) {
				case 0:
					statement = "DELETE FROM items WHERE id = ?"
				case 1:
					statement = "INSERT IGNORE INTO items (id, v, n) VALUES (?, 'again', 0)"
				}
				_, err := app.ExecContext(context.Background(), statement, id)
				var answer *driver.MySQLError
				switch {
				case err == nil:
					commits.Add(1)
					if _, err := w.log.apply([]fsm.Op{{Command: fsm.EnqueueEvents{Events: []fsm.RowRef{row(id)}}}}); err != nil {
						t.Error(err)
					}
				case errors.As(err, &answer) && answer.Number == errOptionPrevents:
					refused.Add(1)
				default:
					t.Error(err)
				}
			}
		})
	}
	more := func(counter *atomic.Int64, what string) {
		t.Helper()
		before := counter.Load()
		eventually(t, what, func() bool { return counter.Load() > before+200 })
	}
	more(&commits, "the writers write")
	for range 2 {
		w.exec(t, "SET GLOBAL read_only = 1")
		more(&refused, "the writers are refused")
		eventually(t, "no batch that began before is under way", func() bool { return task.Stats().Mappings[0].InFlight == 0 })
		before := w.cachedAll(t, count)
		// Its rows are wrong now, as those of a replica that lags.
		w.exec(t, "UPDATE items SET v = CONCAT('of a replica ', v)")
		w.exec(t, "DELETE FROM items WHERE id % 3 = 0")
		w.enqueueAll(t, count)
		eventually(t, "the breaker is open", func() bool {
			b := breaker(task, "source")
			return b.State == "open" && b.LastClass == outbox.ClassSourceNotPrimary
		})
		w.nothingOf(t, "of a replica", before)
		failed := task.Stats().Mappings[0].Failed
		eventually(t, "it is probed", func() bool { return task.Stats().Mappings[0].Failed > failed })
		w.nothingOf(t, "of a replica", before)
		w.exec(t, "UPDATE items SET v = CONCAT('of a primary ', n)")
		w.exec(t, "SET GLOBAL read_only = 0")
		more(&commits, "the writers write again")
	}
	cancel()
	group.Wait()
	eventually(t, "the backlog drains", func() bool {
		if spent := attemptsSpent(w); spent != 0 {
			t.Fatalf("the switch spent %d attempts", spent)
		}
		return w.log.pending(mappingName) == 0
	})
	stopWatching()
	w.agree(t, count)
	if dead := w.log.dead(mappingName); dead != 0 {
		t.Errorf("%d dead letters", dead)
	}
	t.Logf("%d commits, %d refused", commits.Load(), refused.Load())
}

// nothingOf fails when a cached value holds a text that only rows of the read-only time have, or when a key is gone that only they lack.
func (w *world) nothingOf(t *testing.T, text string, before map[int]string) {
	t.Helper()
	for id, value := range before {
		switch now := w.cached(t, id); {
		case strings.Contains(now, text):
			t.Fatalf("row %d of a server that is read-only was written: %s", id, now)
		case now == "" && value != "":
			t.Fatalf("row %d is missing on a server that is read-only, and its key was removed", id)
		}
	}
}

// cachedAll is what the keys of the first rows hold.
func (w *world) cachedAll(t *testing.T, count int) map[int]string {
	t.Helper()
	out := map[int]string{}
	for id := 1; id <= count; id++ {
		out[id] = w.cached(t, id)
	}
	return out
}
