package drain

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/fsm"
)

func TestAdopt_LostInstancesTransactionsEndAndNobodyElses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.lead(w.task(w.own.MySQLDSN))
	mine, second, neighbours, strangers := w.client(w.own.MySQLDSN), w.client(w.own.MySQLDSN), w.client(w.own.MySQLDSN), w.client(w.account("stranger", ""))
	lost, alive := w.log.register(t, "a"), w.log.register(t, "b")
	w.log.report(t, lost, source, mine.thread, second.thread)
	w.log.report(t, alive, source, neighbours.thread)
	w.log.lose(t, lost)
	if got, want := w.adopted(lost), "keys: 0 of 0 keys queued for delivery | transactions: shop: 2 ended | done: adopted"; got != want {
		t.Errorf("steps %q, want %q", got, want)
	}
	if mine.commits(t) || second.commits(t) || !neighbours.commits(t) || !strangers.commits(t) {
		t.Error("the lost instance's transactions, and they alone, should have been ended")
	}
}

func TestAdopt_KeysBecomeEventsOnceThoughAnswersAreLostAndLeadersChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.log.must(t, fsm.PutMapping{Name: "items", Source: source, Target: "cache", Table: "items", Spec: []byte("{}"), Columns: []byte("[]")})
	m := w.log.register(t, "a")
	w.log.must(t, fsm.DrainInstance{ID: m.id, Incarnation: m.incarnation, Intent: fsm.IntentRestart})
	w.log.must(t, fsm.ReportPhase{ID: m.id, Incarnation: m.incarnation, Phase: "flush", Seq: 1, Unfinished: true, Keys: []fsm.RowRef{{Mapping: "items", PK: "1"}, {Mapping: "items", PK: "2"}}})
	w.log.lose(t, m)
	lostAnswers := 0
	w.log.onPropose(func(command fsm.Command) (apply, answer bool) {
		if c, ok := command.(fsm.AdoptInstance); ok && lostAnswers < 1 && c.Step == fsm.AdoptKeys {
			lostAnswers++
			return true, false
		}
		c, ok := command.(fsm.AdoptInstance)
		return !ok || c.Step == fsm.AdoptKeys, true // the first leader never gets to the end
	})
	resign := w.lead(w.task(w.own.MySQLDSN))
	w.until("keys adopted", func() bool {
		return strings.HasPrefix(w.told(m), "keys: 2 of 2") && w.lines.count("was not logged") > 0
	})
	resign()
	before := len(w.log.steps(m))
	w.log.onPropose(nil)
	w.lead(w.task(w.own.MySQLDSN))
	if got := w.adopted(m); !strings.HasSuffix(got, "transactions: no connections were reported | done: adopted") {
		t.Errorf("steps %q", got)
	}
	if after := w.log.steps(m); len(after) != before+2 {
		t.Errorf("the second leader did again what was done: %q", w.told(m))
	}
	pending := 0
	w.log.View(func(s *fsm.State) { pending = s.Pending("items") })
	if pending != 2 {
		t.Errorf("%d events, want 2", pending)
	}
}

// Cluster time cannot tell how long there was no leader, so a report to an earlier leader needs a server that has been up for long.
func TestAdopt_NewLeaderGoesOnIfTheServerIsSurelyTheOneThatWasReported(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, doubtful := w.client(w.own.MySQLDSN), w.client(w.own.MySQLDSN)
	m, n := w.log.register(t, "a"), w.log.register(t, "b")
	w.log.report(t, m, source, c.thread)
	w.log.report(t, n, source, doubtful.thread)
	w.log.lose(t, n)
	resign := w.lead(w.task(w.own.MySQLDSN))
	if got := w.adopted(n); !strings.Contains(got, "reported to an earlier leader, too soon after a start of the server") {
		t.Errorf("steps %q", got)
	}
	resign()
	w.config.OutageMax = 0
	w.lead(w.task(w.own.MySQLDSN))
	w.log.lose(t, m)
	if got := w.adopted(m); !strings.Contains(got, "1 ended") {
		t.Errorf("steps %q", got)
	}
	if c.commits(t) {
		t.Error("the transaction was not ended")
	}
}

func TestAdopt_ThreadThatAnotherConnectionGotSinceIsNotEnded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.client(w.own.MySQLDSN)
	m := w.log.register(t, "a")
	task := w.task(w.own.MySQLDSN)
	w.lead(task)
	w.log.report(t, m, source, c.thread)
	w.own.KillMySQL()
	w.own.StartMySQL()
	// The one that gets the id of the one that was reported.
	stranger := client{}
	for stranger.thread < c.thread {
		stranger = w.client(w.own.MySQLDSN)
	}
	if stranger.thread != c.thread {
		t.Fatalf("thread %d is taken", c.thread)
	}
	w.old()
	w.log.lose(t, m)
	if got := w.adopted(m); !strings.Contains(got, "1 left alone: its instance a is lost, but its connection was reported") {
		t.Errorf("steps %q", got)
	}
	if !stranger.commits(t) {
		t.Error("a stranger's connection was ended")
	}
}

func TestAdopt_ProcessThatRegisteredAnewKeepsItsConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.lead(w.task(w.own.MySQLDSN))
	c := w.client(w.own.MySQLDSN)
	old := w.log.register(t, "a")
	w.log.report(t, old, source, c.thread)
	renewed := w.log.register(t, "a2")
	w.log.report(t, renewed, source, c.thread)
	w.log.lose(t, old)
	if got := w.adopted(old); !strings.Contains(got, "shop: none open") {
		t.Errorf("steps %q", got)
	}
	if !c.commits(t) {
		t.Error("a living instance's transaction was ended")
	}
}

func TestAdopt_RollbackIsWatchedToItsEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	task := w.task(w.own.MySQLDSN)
	w.lead(task)
	c := w.client(w.own.MySQLDSN)
	const rows = 200_000
	digits := "(SELECT 0 d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)"
	w.exec(c, fmt.Sprintf("INSERT INTO ledger (v) SELECT REPEAT('x', 50) FROM %[1]s a, %[1]s b, %[1]s c, %[1]s d, %[1]s e, %[1]s f LIMIT %[2]d", digits, rows))
	m := w.log.register(t, "a")
	w.log.report(t, m, source, c.thread)
	w.log.lose(t, m)
	progress := map[uint64]bool{}
	w.until("adopted", func() bool {
		if x, ok := shown(task, c.thread); ok && x.Killed {
			progress[x.RowsModified] = true
		}
		steps := w.log.steps(m)
		return len(steps) > 0 && steps[len(steps)-1].Step == fsm.AdoptDone
	})
	if len(progress) < 2 {
		t.Errorf("the rows that were left were shown as %v", progress)
	}
	var open int
	if err := w.db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM information_schema.INNODB_TRX WHERE trx_rows_modified > 0").Scan(&open); err != nil || open != 0 {
		t.Errorf("%d transactions are open at the end of the adoption, %v", open, err)
	}
	if got := w.told(m); !strings.Contains(got, "shop: 1 ended") || w.lines.count("is undone") != 1 {
		t.Errorf("steps %q", got)
	}
}

func TestAdopt_SourceThatIsDownHoldsUpNobodyElseAndIsAskedUntilItIsBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := newWorld(t)
	w.more["other"] = Source{Reader: other.reader(other.own.MySQLDSN), Watch: w.watch}
	task := w.task(w.own.MySQLDSN)
	w.lead(task)
	both, one := w.log.register(t, "both"), w.log.register(t, "one")
	c, d := other.client(other.own.MySQLDSN), w.client(w.own.MySQLDSN)
	w.log.must(t, fsm.ReportConnections{ID: both.id, Incarnation: both.incarnation, Connections: []fsm.Connections{{Source: source, IDs: []uint64{d.thread}}, {Source: "gone", IDs: []uint64{1}}}})
	w.log.report(t, one, "other", c.thread)
	w.own.KillMySQL()
	w.until("seen to be down", func() bool { return !task.Status().Sources[1].Reachable })
	w.log.lose(t, both)
	w.log.lose(t, one)
	if got := w.adopted(one); !strings.Contains(got, "other: 1 ended") || c.commits(t) {
		t.Errorf("steps %q", got)
	}
	w.until("the wait is on record", func() bool {
		return strings.Contains(w.told(both), "transactions: waiting for shop: MySQL unreachable")
	})
	w.own.StartMySQL()
	if got := w.adopted(both); !strings.Contains(got, "shop: none open; gone: this node's configuration names no such source | done") {
		t.Errorf("steps %q", got)
	}
	if n := w.lines.count("are not seen"); n != 1 {
		t.Errorf("the outage was logged %d times", n)
	}
}

// The relay looks at fences; here the test does.
func TestAdopt_WaitsForWhatWasAnnounced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	task := w.task(w.own.MySQLDSN)
	w.lead(task)
	w.log.must(t, fsm.PutMapping{Name: "items", Source: "main"})
	m, n := w.log.register(t, "a"), w.log.register(t, "b")
	var ids []uint64
	for range 2 {
		r := w.log.must(t, fsm.PrepareEvents{Source: "main", Events: []fsm.RowRef{{Mapping: "items", PK: `["1"]`}}, TTLMs: 60_000, Instance: m.id})
		ids = append(ids, r.Prepared.ID)
	}
	w.log.lose(t, m)
	w.log.lose(t, n)
	w.adopted(n) // of one that announced nothing no other has to wait
	w.log.must(t, fsm.ProbePrepared{Probes: []fsm.Probe{{ID: ids[0], Verdict: fsm.VerdictCommitted}}})
	if steps := w.told(m); strings.Contains(steps, "announced") || strings.Contains(steps, fsm.AdoptDone) {
		t.Errorf("with one open: %q", steps)
	}
	w.log.must(t, fsm.ProbePrepared{Probes: []fsm.Probe{{ID: ids[1], Verdict: fsm.VerdictRolledBack}}})
	if got := w.adopted(m); !strings.Contains(got, "prepared: 2 transactions that it had announced are over") {
		t.Errorf("steps %q", got)
	}
}

func TestAdopt_GivesUpWaitingForWhatWasAnnounced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.config.UnreachableMax = 100 * time.Millisecond
	w.lead(w.task(w.own.MySQLDSN))
	w.log.must(t, fsm.PutMapping{Name: "items", Source: "main"})
	m := w.log.register(t, "a")
	w.log.must(t, fsm.PrepareEvents{Source: "main", Events: []fsm.RowRef{{Mapping: "items", PK: `["1"]`}}, TTLMs: 60_000, Instance: m.id})
	w.log.lose(t, m)
	if got := w.adopted(m); !strings.Contains(got, "prepared: gave up waiting for 1 transactions") {
		t.Errorf("steps %q", got)
	}
}

func TestAdopt_WaitsAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.config.RollbackMax, w.config.UnreachableMax = 2*time.Second, time.Second
	dsn := w.account("watch", "PROCESS")
	w.more["dead"] = Source{Reader: w.reader("a:b@tcp(127.0.0.1:1)/x"), Watch: w.watch}
	task := w.task(dsn)
	w.lead(task)
	c := w.client(w.own.MySQLDSN)
	m := w.log.register(t, "a")
	w.log.must(t, fsm.ReportConnections{ID: m.id, Incarnation: m.incarnation, Connections: []fsm.Connections{{Source: source, IDs: []uint64{c.thread}}, {Source: "dead", IDs: []uint64{1}}}})
	w.log.lose(t, m)
	got := w.adopted(m)
	for _, part := range []string{"shop: 1 still open with 1 rows (to be ended: its instance a is lost; the account lacks CONNECTION ADMIN)", "dead: gave up after 1s: MySQL unreachable"} {
		if !strings.Contains(got, part) {
			t.Errorf("steps %q lack %q", got, part)
		}
	}
	if !c.commits(t) {
		t.Error("it was ended all the same")
	}
}
