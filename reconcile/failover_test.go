package reconcile

import (
	"fmt"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/cluster_test/services"
	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/rediscache"
)

// newSentinelWorld has a primary that can be replaced, and a replica that has all of it.
func newSentinelWorld(t *testing.T, rows int) (*world, *services.SentinelSet) {
	t.Helper()
	set := services.OwnSentinels(t)
	w := newWorld(t, 0, owns(nil))
	var err error
	if w.target, err = rediscache.Open(rediscache.Config{Name: "cache", Kind: rediscache.Sentinel, Addrs: set.Addrs, MasterName: set.Name}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.target.Close() })
	w.cache = dialCache(t, set.Primary.Addr)
	w.config.ThreadsRunningMax, w.config.TargetLatencyMax = 100_000, time.Minute
	w.insert(rows)
	w.fill()
	return w, set
}

// followed waits until the replica has what the primary has.
func followed(t *testing.T, set *services.SentinelSet) {
	t.Helper()
	services.Eventually(t, "the replica has all", func() bool {
		return set.Replica.Info("replication", "slave_repl_offset") == set.Primary.Info("replication", "master_repl_offset")
	})
}

// A primary dies in the middle of the table with writes that its replica never got: what the pass says of the rest is what the new one has.
func TestTask_PrimaryIsReplacedInMidPass(t *testing.T) {
	t.Parallel()
	const rows, chunks, lost, each = 4_000, 4, 7, 100
	w, set := newSentinelWorld(t, rows)
	missing := w.unlink(0, rows, each)
	followed(t, set)
	g := newGate(chunks + 1)
	task := w.task(w.hookTarget(&hookedTarget{before: g.pass}))
	defer w.lead(task)()
	pass := w.start(fsm.PassDryRun, 0, 20)
	<-g.reached
	set.Replica.Freeze()
	if cut := set.Primary.Do("CLIENT", "KILL", "TYPE", "replica"); cut != int64(1) {
		t.Fatalf("%v replicas were cut off", cut)
	}
	for i := rows - each; i > rows-(lost+1)*each; i -= each { // acknowledged by the primary, and equal as long as it lives
		key := w.key(i)
		w.cache.do("SET", key, fmt.Sprintf(`{"id":%d,"name":"customer %06d","total":%d.%02d,"note":"note %06d"}`, id(i), i, i%90_000, i%100, i))
	}
	set.Primary.Kill()
	set.Replica.Thaw()
	close(g.open)
	w.waits(task, "target_unreachable")
	set.Failover()
	p := w.ended(pass)
	want := fsm.PassCounts{Rows: rows, Equal: rows - uint64(len(missing)), Missing: uint64(len(missing))}
	if p.State != fsm.PassDone || p.Counts != want {
		t.Errorf("%s %q: %+v, want %+v", p.State, p.Reason, p.Counts, want)
	}
}

// A cursor of one primary says nothing to another: the search for keys without a row begins anew, and counts each key once.
func TestKeys_PrimaryIsReplacedInMidSearch(t *testing.T) {
	t.Parallel()
	const rows, planted = 3_000, 50
	w, set := newSentinelWorld(t, rows)
	w.plantKeys(planted)
	followed(t, set)
	g := newGate(3) // of the reads of rows by key: the search is under way
	defer w.lead(w.task(w.hookSource(&hookedSource{onRows: g.pass})))()
	pass := w.startKeys(fsm.PassDryRun, 1_000)
	<-g.reached
	set.Failover()
	close(g.open)
	p := w.ended(pass)
	if p.State != fsm.PassDone || p.Counts.Equal != rows || p.Keys.Matched != rows+planted || p.Keys.Extra != planted || p.Keys.Hot+p.Keys.Foreign != 0 {
		t.Errorf("%s %q: %+v %+v, want %d extra keys of %d", p.State, p.Reason, p.Counts, p.Keys, planted, rows+planted)
	}
}
