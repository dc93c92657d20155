package mysql_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/quiescehq/quiesce/mysql"
)

func (f outboxFixture) probe(id string) mysql.FenceVerdict {
	f.Helper()
	verdict, err := f.outbox.Probe(f.Context(), id)
	if err != nil {
		f.Fatalf("Probe: %v", err)
	}
	return verdict
}

func TestProbe_TellsCommittedRolledBackAndOpen(t *testing.T) {
	t.Parallel()
	f := newOutbox(t)
	f.exec("INSERT INTO quiesce_fence (id) VALUES ('c.p1')")
	if v := f.probe("c.p1"); v != mysql.FenceCommitted {
		t.Errorf("a committed fence: %s", v)
	}
	for range 2 { // the second look finds the row of the first
		if v := f.probe("c.p2"); v != mysql.FenceRolledBack {
			t.Errorf("no fence: %s", v)
		}
	}
	tx, err := f.db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec("INSERT INTO quiesce_fence (id) VALUES ('c.p3')"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if v := f.probe("c.p3"); v != mysql.FenceOpen {
		t.Errorf("a fence that is held: %s", v)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("that took %v: the wait for locks is not bounded", took)
	}
	if v := f.probe("c.p4"); v != mysql.FenceRolledBack {
		t.Errorf("its neighbour, meanwhile: %s", v)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if v := f.probe("c.p3"); v != mysql.FenceRolledBack {
		t.Errorf("after the rollback: %s", v)
	}
}

// The transaction that holds its fence commits while the probe waits for it.
func TestProbe_WaitsForACommitThatIsNear(t *testing.T) {
	t.Parallel()
	f := newOutbox(t)
	tx, err := f.db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec("INSERT INTO quiesce_fence (id) VALUES ('c.p1')"); err != nil {
		t.Fatal(err)
	}
	verdict := make(chan mysql.FenceVerdict, 1)
	go func() { v, _ := f.outbox.Probe(t.Context(), "c.p1"); verdict <- v }()
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if v := <-verdict; v != mysql.FenceCommitted {
		t.Errorf("%s, want committed", v)
	}
}

func TestProbe_TakenFenceRefusesTheLateTransaction(t *testing.T) {
	t.Parallel()
	f := newOutbox(t)
	f.probe("c.p1")
	_, err := f.db.Exec("INSERT INTO quiesce_fence (id) VALUES ('c.p1')")
	var refused *driver.MySQLError
	if !errors.As(err, &refused) || refused.Number != 1062 {
		t.Errorf("%v, want 1062", err)
	}
}

// INSERT IGNORE would cut a long id off and look at somebody else's fence.
func TestProbe_IDThatDoesNotFitIsRefused(t *testing.T) {
	t.Parallel()
	f := newOutbox(t)
	for _, id := range []string{"", strings.Repeat("x", 65)} {
		if v, err := f.outbox.Probe(t.Context(), id); !errors.Is(err, mysql.ErrFenceID) {
			t.Errorf("%q: %s, %v", id, v, err)
		}
	}
	if v := f.probe(strings.Repeat("x", 64)); v != mysql.FenceRolledBack {
		t.Errorf("64 bytes: %s", v)
	}
}

func TestPurgeFences_GoesOverTheWholeTable(t *testing.T) {
	t.Parallel()
	f := newOutbox(t)
	const fences = 2_500 // more than two steps
	var values []string
	for i := range fences {
		values = append(values, fmt.Sprintf("('c.p%04d', %d, CURRENT_TIMESTAMP - INTERVAL %d MINUTE)", i, i%2, 10+i%3*100))
	}
	f.exec("INSERT INTO quiesce_fence (id, probe, created_at) VALUES " + strings.Join(values, ","))
	kept := 0
	purged, err := f.outbox.PurgeFences(t.Context(), mysql.FencePurge{CommittedAfter: 5 * time.Minute, ProbedAfter: 150 * time.Minute, Keep: func(id string) int {
		if strings.HasSuffix(id, "00") {
			kept++
			return mysql.FenceInUse
		}
		return mysql.FenceOver
	}})
	if err != nil {
		t.Fatal(err)
	}
	left := f.number("SELECT COUNT(*) FROM quiesce_fence WHERE probe = 0")
	probesLeft := f.number("SELECT COUNT(*) FROM quiesce_fence WHERE probe = 1 AND created_at > CURRENT_TIMESTAMP - INTERVAL 150 MINUTE")
	if left != kept || kept != fences/100 || probesLeft == 0 || purged != fences-f.number("SELECT COUNT(*) FROM quiesce_fence") {
		t.Errorf("%d committed fences are left, want %d; %d probes; %d purged", left, kept, probesLeft, purged)
	}
	if n := f.number("SELECT COUNT(*) FROM quiesce_fence WHERE probe = 1 AND created_at < CURRENT_TIMESTAMP - INTERVAL 151 MINUTE"); n != 0 {
		t.Errorf("%d old probes are left", n)
	}
}
