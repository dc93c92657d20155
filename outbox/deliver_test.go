package outbox_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/outbox"
	"github.com/quiescehq/quiesce/rediscache"
)

func TestDelivery_CacheHoldsWhatTheTableHolds(t *testing.T) {
	t.Parallel()
	w := shared(t)
	const count = 3_000
	w.fill(t, count)
	task := w.task(t)
	lead(t, task)
	w.enqueueAll(t, count)
	w.drained(t)
	w.agree(t, count)
	eventually(t, "every delivery is counted", func() bool {
		m := task.Stats().Mappings[0]
		return m.Delivered == count && m.Superseded == 0 && m.Failed == 0 && m.InFlight == 0 && m.OldestMs == 0 && m.Pending == 0
	})
}

func TestDelivery_EventsFromBeforeTheTermAreDelivered(t *testing.T) {
	t.Parallel()
	w := shared(t)
	w.fill(t, 10)
	w.enqueueAll(t, 10)
	lead(t, w.task(t))
	w.drained(t)
	w.agree(t, 10)
}

func TestDelivery_DeletedRowRemovesItsKey(t *testing.T) {
	t.Parallel()
	w := shared(t)
	w.fill(t, 2)
	lead(t, w.task(t))
	w.enqueueAll(t, 2)
	w.drained(t)
	w.exec(t, "DELETE FROM items WHERE id = 1")
	w.enqueue(t, row(1))
	w.drained(t)
	if got := w.redis(t, "EXISTS "+w.key(1)); got != ":0" {
		t.Errorf("the key of a deleted row: EXISTS answers %s", got)
	}
	w.agree(t, 2)
}

func TestDelivery_InvalidateModeRemovesTheKeyWithoutReading(t *testing.T) {
	t.Parallel()
	w := shared(t)
	w.fill(t, 1)
	spec := w.spec()
	spec.Mode = mapping.Invalidate
	w.putMapping(t, mappingName, spec)
	w.places.Sources = nil // no source is needed
	w.redis(t, "SET "+w.key(1)+" filled-by-a-reader")
	lead(t, w.task(t))
	w.enqueue(t, row(1))
	w.drained(t)
	if got := w.redis(t, "EXISTS "+w.key(1)); got != ":0" {
		t.Errorf("EXISTS answers %s", got)
	}
}

func TestDelivery_HashHoldsTheColumnsAndKeepsForeignFields(t *testing.T) {
	t.Parallel()
	w := shared(t)
	w.write(t, 1, "a")
	spec := w.spec()
	spec.Encoding = mapping.Hash
	w.putMapping(t, mappingName, spec)
	w.redis(t, "HSET "+w.key(1)+" foreign kept v old")
	lead(t, w.task(t))
	w.enqueue(t, row(1))
	w.drained(t)
	actual, err := w.target.Read(t.Context(), []rediscache.KeyRequest{{Key: w.key(1), Type: mapping.TypeHash}})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, field := range actual[0].Fields {
		got[field.Name] = string(field.Value)
	}
	if want := "map[foreign:kept id:1 n:1 v:a]"; fmt.Sprint(got) != want {
		t.Errorf("the hash is %v, want %s", got, want)
	}
}

// exists tells whether Redis has the key.
func (w *world) exists(t testing.TB, key string) bool {
	t.Helper()
	return w.redis(t, "EXISTS "+key) == ":1"
}

// keys is a mapping of the table by a key that is not its primary key, with two data keys.
func (w *world) keys() mapping.Spec {
	spec := w.spec()
	spec.KeyColumns, spec.Key, spec.Keys = []string{"v"}, "", []string{w.prefix + "name:{v}", w.prefix + "{{all}}:{v}"}
	return spec
}

func (w *world) putKeys(t testing.TB, change func(*mapping.Spec)) {
	t.Helper()
	w.exec(t, "ALTER TABLE items MODIFY v VARCHAR(100) COLLATE utf8mb4_bin NOT NULL, ADD UNIQUE (v)")
	spec := w.keys()
	if change != nil {
		change(&spec)
	}
	w.putMapping(t, mappingName, spec)
}

func named(text string) fsm.RowRef {
	return fsm.RowRef{Mapping: mappingName, PK: mapping.EncodeKey([]string{text})}
}

func TestDelivery_EachKeyOfAnEventIsWrittenAndAnOldKeyIsCleared(t *testing.T) {
	t.Parallel()
	w := shared(t)
	w.putKeys(t, nil)
	w.write(t, 1, "anna")
	lead(t, w.task(t))
	w.enqueue(t, named("anna"))
	w.drained(t)
	both := func(name string) string {
		return w.redis(t, "EXISTS "+w.prefix+"name:"+name+" "+w.prefix+"{all}:"+name)
	}
	if got := both("anna"); got != ":2" {
		t.Errorf("EXISTS answers %s, want both keys", got)
	}
	w.write(t, 1, "berta")
	w.enqueue(t, named("anna"), named("berta"))
	w.drained(t)
	if old, now := both("anna"), both("berta"); old != ":0" || now != ":2" {
		t.Errorf("old key %s, new key %s", old, now)
	}
}

// The second key is in the way: the first one must not keep what was written, and both go.
func TestDelivery_EventSettlesOnlyWhenAllItsKeysAreWritten(t *testing.T) {
	t.Parallel()
	w := shared(t)
	w.putKeys(t, nil)
	w.write(t, 1, "anna")
	w.redis(t, "RPUSH "+w.prefix+"{all}:anna x")
	lead(t, w.task(t))
	w.enqueue(t, named("anna"))
	w.drained(t)
	if letter, ok := w.log.letter(named("anna")); !ok || letter.Failure != outbox.ClassWrongType {
		t.Errorf("dead letter %+v (%v), want class %s", letter, ok, outbox.ClassWrongType)
	}
	if w.exists(t, w.prefix+"name:anna") || w.exists(t, w.prefix+"{all}:anna") {
		t.Error("a key of a dead letter is still there")
	}
}

func TestDelivery_WrongTypeIsReplacedWhereTheMappingSaysSo(t *testing.T) {
	t.Parallel()
	w := shared(t)
	w.putKeys(t, func(s *mapping.Spec) { s.OnWrongType = mapping.WrongTypeReplace })
	w.write(t, 1, "anna")
	w.redis(t, "RPUSH "+w.prefix+"{all}:anna x")
	lead(t, w.task(t))
	w.enqueue(t, named("anna"))
	w.drained(t)
	if w.log.dead(mappingName) != 0 || w.redis(t, "TYPE "+w.prefix+"{all}:anna") != "+string" {
		t.Errorf("%d dead letters, type %s", w.log.dead(mappingName), w.redis(t, "TYPE "+w.prefix+"{all}:anna"))
	}
}

func TestDelivery_RowThatWhereLeavesOutIsMissing(t *testing.T) {
	t.Parallel()
	w := shared(t)
	hidden := mapping.Literal("hidden")
	w.putKeys(t, func(s *mapping.Spec) {
		s.KeyColumns, s.Keys, s.Key = nil, nil, w.prefix+"item:{id}"
		s.Where = []mapping.Condition{{Column: "v", Op: "!=", Value: &hidden}}
		s.NegativeTTLMillis = 600_000
	})
	w.write(t, 1, "seen")
	lead(t, w.task(t))
	w.enqueue(t, row(1))
	w.drained(t)
	if got := w.cached(t, 1); got != value(1, "seen", 1) {
		t.Errorf("cached %q", got)
	}
	w.write(t, 1, "hidden")
	w.enqueue(t, row(1))
	w.drained(t)
	if got := w.cached(t, 1); got != "null" {
		t.Errorf("cached %q, want what stands for a missing row", got)
	}
}

func TestDelivery_IfPresentWritesNoKeyThatReadersDoNotHave(t *testing.T) {
	t.Parallel()
	w := shared(t)
	spec := w.spec()
	spec.Mode = mapping.WriteIfPresent
	w.putMapping(t, mappingName, spec)
	w.fill(t, 2)
	w.redis(t, "SET "+w.key(2)+" filled")
	lead(t, w.task(t))
	w.enqueueAll(t, 2)
	w.drained(t)
	if w.exists(t, w.key(1)) || w.cached(t, 2) != value(2, "value 2", 1) || w.guardToken(t, 1) == 0 {
		t.Errorf("key 1 exists: %t with guard %d; key 2 holds %q", w.exists(t, w.key(1)), w.guardToken(t, 1), w.cached(t, 2))
	}
}

// Eight keys an event, and more events than one call of the target takes keys.
func TestDelivery_ManyKeysOfManyEvents(t *testing.T) {
	t.Parallel()
	w := shared(t)
	const count = 600
	spec := w.spec()
	spec.Key = ""
	for i := range 8 {
		spec.Keys = append(spec.Keys, fmt.Sprintf("%sk%d:{id}", w.prefix, i))
	}
	w.putMapping(t, mappingName, spec)
	w.fill(t, count)
	lead(t, w.task(t))
	w.enqueueAll(t, count)
	w.drained(t)
	if dead := w.log.dead(mappingName); dead != 0 {
		t.Errorf("%d dead letters", dead)
	}
	for id := 1; id <= count; id += 37 {
		for i := range 8 {
			if key := fmt.Sprintf("%sk%d:%d", w.prefix, i, id); !w.exists(t, key) {
				t.Fatalf("%s is not there", key)
			}
		}
	}
}

// storm lets several applications update few rows, each enqueueing after its commit, and waits for the outbox to be empty.
func storm(t *testing.T, w *world, rowsCount, writers, updates int) {
	t.Helper()
	var group sync.WaitGroup
	for writer := range writers {
		group.Go(func() {
			for n := range updates {
				id := 1 + (writer+n)%rowsCount
				w.write(t, id, fmt.Sprintf("writer %d update %d", writer, n))
				w.enqueue(t, row(id))
			}
		})
	}
	group.Wait()
	w.drained(t)
}

func TestDelivery_UpdateStormEndsWithTheLastCommit(t *testing.T) {
	t.Parallel()
	w := shared(t)
	task := w.task(t)
	lead(t, task)
	storm(t, w, 5, 8, 100)
	w.agree(t, 5)
}

// concurrentUpdate changes a row while the first delivery of its event is about to be applied, and enqueues the change. It returns when nothing is pending.
func concurrentUpdate(t *testing.T, w *world) {
	t.Helper()
	var once sync.Once
	w.steps().beforeApply = func(context.Context, []rediscache.Guarded) {
		once.Do(func() {
			w.write(t, 1, "second")
			w.enqueue(t, row(1))
		})
	}
	w.write(t, 1, "first")
	w.enqueue(t, row(1))
	resign := lead(t, w.task(t))
	w.drained(t)
	resign()
}

func TestDelivery_EventThatComesInFlightIsDeliveredToo(t *testing.T) {
	t.Parallel()
	w := shared(t)
	concurrentUpdate(t, w)
	w.agree(t, 1)
}

// A settlement that ignored its token would take the newer event with it. This shows that the test above would notice.
func TestDelivery_NegativeControl_SettlingWithoutTokenLosesTheUpdate(t *testing.T) {
	t.Parallel()
	w := shared(t)
	w.log.setTamper(func(ops []fsm.Op) tampered {
		for i := range ops {
			settle, ok := ops[i].Command.(fsm.SettleEvents)
			if !ok {
				continue
			}
			for j := range settle.Events {
				settle.Events[j].Token = fsm.TokenMax
			}
		}
		return tampered{ops: ops}
	})
	concurrentUpdate(t, w)
	if different := w.differences(t, 1); len(different) != 1 {
		t.Error("the update survived a settlement without token: the test of concurrent updates shows nothing")
	}
}

func TestDelivery_ChangedMappingIsDeliveredByTheNewRule(t *testing.T) {
	t.Parallel()
	w := shared(t)
	changed := w.spec()
	changed.Columns = []mapping.ColumnSpec{{Name: "v", As: "text"}}
	var once sync.Once
	w.steps().afterApply = func(_ []rediscache.Guarded, _ []rediscache.Outcome, err error) error {
		once.Do(func() { w.putMapping(t, mappingName, changed) })
		return err
	}
	w.write(t, 1, "a")
	before := w.enqueue(t, row(1))[0].Token
	lead(t, w.task(t))
	w.drained(t)
	if got, want := w.cached(t, 1), `{"text":"a"}`; got != want {
		t.Errorf("after the change the key holds %s, want %s", got, want)
	}
	if after := w.guardToken(t, 1); after <= before {
		t.Errorf("the new rendering has token %d, not above %d of the old one", after, before)
	}
}

func TestDelivery_InvalidateInFlightCostsNoAttempt(t *testing.T) {
	t.Parallel()
	w := shared(t)
	var rounds atomic.Int64
	w.steps().beforeApply = func(ctx context.Context, _ []rediscache.Guarded) {
		if rounds.Add(1) > 2 {
			return
		}
		batch, err := w.target.Begin(ctx, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer batch.Close()
		if err := batch.Invalidate(ctx, []rediscache.KeyPair{{Key: w.key(1), Guard: w.guard(1)}}); err != nil {
			t.Error(err)
		}
	}
	w.write(t, 1, "a")
	task := w.task(t)
	lead(t, task)
	w.enqueue(t, row(1))
	w.drained(t)
	w.agree(t, 1)
	if failed := task.Stats().Mappings[0].Failed; failed != 0 || rounds.Load() < 3 {
		t.Errorf("%d failures after %d rounds, want none and at least 3", failed, rounds.Load())
	}
}

func TestDelivery_RowsOfOneBatchAreNeverInAnother(t *testing.T) {
	t.Parallel()
	w := shared(t)
	const count = 500
	w.fill(t, count)
	w.cfg.BatchRowsMax, w.cfg.ProbeRows = 20, 5
	var mu sync.Mutex
	under := map[string]bool{}
	var twice atomic.Int64
	steps := w.steps()
	steps.beforeApply = func(_ context.Context, writes []rediscache.Guarded) {
		mu.Lock()
		defer mu.Unlock()
		for _, write := range writes {
			if under[write.Write.Key] {
				twice.Add(1)
			}
			under[write.Write.Key] = true
		}
	}
	steps.afterApply = func(writes []rediscache.Guarded, _ []rediscache.Outcome, err error) error {
		mu.Lock()
		defer mu.Unlock()
		for _, write := range writes {
			delete(under, write.Write.Key)
		}
		return err
	}
	lead(t, w.task(t))
	for range 5 {
		w.enqueueAll(t, count)
	}
	w.drained(t)
	w.agree(t, count)
	if n := twice.Load(); n > 0 {
		t.Errorf("%d rows were in two batches at a time", n)
	}
}

func TestDelivery_ManyMappingsShareTheBatches(t *testing.T) {
	t.Parallel()
	w := shared(t)
	w.fill(t, 50)
	var refs []fsm.RowRef
	const mappings = 12
	for n := range mappings {
		spec := w.spec()
		spec.Key = fmt.Sprintf("%sother%d:{id}", w.prefix, n)
		name := fmt.Sprintf("other-%02d", n)
		w.putMapping(t, name, spec)
		for id := range 50 {
			refs = append(refs, fsm.RowRef{Mapping: name, PK: row(id + 1).PK})
		}
	}
	task := w.task(t)
	lead(t, task)
	w.enqueue(t, refs...)
	eventually(t, "every mapping is delivered", func() bool {
		total := uint64(0)
		for _, m := range task.Stats().Mappings {
			total += m.Delivered
		}
		return total == 50*mappings
	})
}

func TestDelivery_MappingOfAnotherNodesPlacesWaits(t *testing.T) {
	t.Parallel()
	w := shared(t)
	w.write(t, 1, "a")
	w.places.Targets = map[string]outbox.Target{}
	task := w.task(t)
	resign := lead(t, task)
	w.enqueue(t, row(1))
	if m := task.Stats().Mappings[0]; m.Blocked != outbox.BlockedTargetMissing || m.Pending != 1 {
		t.Errorf("stats %+v, want one pending event that is blocked by %s", m, outbox.BlockedTargetMissing)
	}
	resign()
	if e, ok := w.log.event(row(1)); !ok || e.Attempts != 0 || e.Failure != "" {
		t.Errorf("the event was touched: %+v", e)
	}
}
