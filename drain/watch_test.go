package drain

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mysql"
)

func TestWatch_DrainPastTheDeadlineOfItsTransactionsLosesThemAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	task := w.task(w.own.MySQLDSN)
	w.lead(task)
	c := w.client(w.own.MySQLDSN)
	m := w.log.register(t, "a")
	w.log.report(t, m, source, c.thread)
	w.log.must(t, fsm.DrainInstance{ID: m.id, Incarnation: m.incarnation, Intent: fsm.IntentRestart})
	w.log.must(t, fsm.ReportPhase{ID: m.id, Incarnation: m.incarnation, Phase: "transactions", Seq: 1})
	since := w.log.instance(m).PhaseSince
	w.until("ended", func() bool { return task.Status().Sources[0].Killed == 1 })
	if had := w.log.Now() - since; had < 3_000 {
		t.Errorf("its transactions had %d ms of 3000", had)
	}
	if v := w.log.instance(m); v.State != fsm.InstanceDraining {
		t.Errorf("the instance is %s", v.State)
	}
	if c.commits(t) {
		t.Error("it could still commit")
	}
}

func TestWatch_PolicyAllEndsLongOnesOfListedUsersAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.watch.Threshold, w.watch.Kill, w.watch.KillUsers = 2*time.Second, KillAll, []string{"batch"}
	batch, people := w.client(w.account("batch", "")), w.client(w.account("people", ""))
	task := w.task(w.own.MySQLDSN)
	w.lead(task)
	w.until("both long", func() bool {
		x, ok := shown(task, people.thread)
		return ok && x.Verdict == "left alone: its user is not on the list" && task.Status().Sources[0].Killed == 1
	})
	if batch.commits(t) || !people.commits(t) {
		t.Error("the listed user's transaction, and it alone, should have been ended")
	}
}

func TestWatch_PolicyNeverEndsNothingButAnOperatorMay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.watch.Kill, w.watch.Threshold = KillNever, time.Second
	c := w.client(w.own.MySQLDSN)
	task := w.task(w.own.MySQLDSN)
	if _, err := task.Kill(t.Context(), TransactionID(source, c.thread, "1"), "why"); !errors.Is(err, ErrSourceUnreachable) {
		t.Errorf("Kill on a node that does not lead: %v", err)
	}
	w.lead(task)
	m := w.log.register(t, "a")
	w.log.report(t, m, source, c.thread)
	w.log.lose(t, m)
	if got := w.adopted(m); !strings.Contains(got, "shop: 1 left alone: the policy is never") {
		t.Errorf("steps %q", got)
	}
	w.until("long", func() bool { return task.Status().Sources[0].Long == 1 })
	x, ok := shown(task, c.thread)
	if !ok || x.Instance != m.id || x.InstanceName != "a" || x.Command != "Sleep" || x.RowsModified != 1 || x.User == "" || x.Verdict != "left alone: the policy is never" {
		t.Errorf("shown as %+v", x)
	}
	for _, id := range []string{"", "shop", "shop.1", "nowhere.1.1", "shop.x.1", "shop.999999.1", x.ID + "1"} {
		if _, err := task.Kill(t.Context(), id, "why"); !errors.Is(err, ErrTransactionNotFound) {
			t.Errorf("Kill(%q) = %v", id, err)
		}
	}
	verdict, err := task.Kill(t.Context(), x.ID, "holds up the migration")
	if err != nil || !verdict.Killed {
		t.Fatalf("Kill = %+v, %v", verdict, err)
	}
	if c.commits(t) || w.lines.count("an operator: holds up the migration") != 1 {
		t.Error("the operator's wish was not heeded, or not logged with its reason")
	}
	w.until("undone", func() bool { _, open := shown(task, c.thread); return !open && w.lines.count("is undone") == 1 })
}

func TestWatch_OperatorDoesNotEndWhatIsAnotherTransactionNow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.watch.Threshold = time.Second
	c := w.client(w.own.MySQLDSN)
	task := w.task(w.own.MySQLDSN)
	w.lead(task)
	w.until("long", func() bool { _, ok := shown(task, c.thread); return ok })
	old, _ := shown(task, c.thread)
	w.exec(c, "COMMIT", "BEGIN", "INSERT INTO ledger (v) VALUES ('y')")
	if verdict, err := task.Kill(t.Context(), old.ID, "why"); verdict.Killed || !errors.Is(err, ErrTransactionNotFound) {
		t.Errorf("Kill = %+v, %v", verdict, err)
	}
	if !c.commits(t) {
		t.Error("the next transaction was ended in place of the last")
	}
}

func TestWatch_MissingPrivilegesAreSaidOnceAndShownWhileTheyLast(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dsn := w.account("watch", "")
	task := w.task(dsn)
	w.lead(task)
	missing := func(want ...string) func() bool {
		return func() bool { return slices.Equal(task.Status().Sources[0].Missing, want) }
	}
	w.until("PROCESS missing", missing(privilegeProcess))
	w.exec(w.db, "GRANT PROCESS ON *.* TO watch@'%'")
	w.until("the other one missing", missing(privilegeKill))
	c := w.client(w.own.MySQLDSN)
	m := w.log.register(t, "a")
	w.log.report(t, m, source, c.thread)
	w.log.lose(t, m)
	w.until("refused", func() bool {
		x, ok := shown(task, c.thread)
		return ok && strings.HasSuffix(x.Verdict, "is lost; the account lacks CONNECTION ADMIN")
	})
	for _, privilege := range []string{privilegeProcess, privilegeKill} {
		if n := w.lines.count("lacks a privilege\" source=shop privilege=" + quoted(privilege)); n != 1 {
			t.Errorf("%s was named %d times", privilege, n)
		}
	}
	if !c.commits(t) {
		t.Error("it was ended")
	}
}

func quoted(s string) string {
	if strings.Contains(s, " ") {
		return `"` + s + `"`
	}
	return s
}

func TestWatch_OneReaderNotFasterThanTheCacheAllows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	task := w.task(w.own.MySQLDSN)
	inner := task.Sources[source].Reader
	timed := &timedReader{Reader: inner}
	task.Sources[source] = Source{Reader: timed, Watch: w.watch}
	w.lead(task)
	for n := range 8 { // every one asks for a reading at once
		m := w.log.register(t, string(rune('a'+n)))
		w.log.report(t, m, source, 4_000_000)
		w.log.lose(t, m)
		w.adopted(m)
	}
	w.until("enough readings", func() bool { return timed.reads() > 8 })
	if least := timed.least(); least < mysql.TransactionReadsEvery {
		t.Errorf("two readings were %v apart", least)
	}
}
