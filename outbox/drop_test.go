package outbox_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/mysql"
	"github.com/quiescehq/quiesce/outbox"
	"github.com/quiescehq/quiesce/rediscache"
)

// drop enqueues events that only remove, as a pass does.
func (w *world) drop(t testing.TB, refs ...fsm.RowRef) []fsm.EventToken {
	t.Helper()
	return w.log.must(t, fsm.EnqueueEvents{Events: refs, Drop: true}).Outbox.Tokens
}

// delivered writes the rows to their keys and has nothing pending.
func (w *world) delivered(t testing.TB, count int) {
	t.Helper()
	w.fill(t, count)
	resign := lead(t, w.task(t))
	w.enqueueAll(t, count)
	w.drained(t)
	w.agree(t, count)
	resign()
}

// counting counts the rows that are read.
func (w *world) counting(fail func() error) *atomic.Int64 {
	var read atomic.Int64
	w.places.Sources = map[string]outbox.Source{sourceName: sourceFunc(func(ctx context.Context, m *mapping.Mapping, tuples [][]string) (map[string]*mapping.Row, error) {
		read.Add(int64(len(tuples)))
		if fail != nil {
			if err := fail(); err != nil {
				return nil, err
			}
		}
		return w.source.ReadRows(ctx, m, tuples)
	})}
	return &read
}

func TestDrop_RemovesAllKeysOfARowWithoutReadingIt(t *testing.T) {
	t.Parallel()
	w := shared(t)
	w.delivered(t, 3)
	read := w.counting(nil)
	lead(t, w.task(t))
	token := w.drop(t, row(2))[0].Token
	w.drained(t)
	if w.exists(t, w.key(2)) || w.guardToken(t, 2) != token {
		t.Errorf("the key is there: %v; its guard has token %d, want the event's %d", w.exists(t, w.key(2)), w.guardToken(t, 2), token)
	}
	if read.Load() != 0 {
		t.Errorf("%d rows were read to remove a key", read.Load())
	}
	if !w.exists(t, w.key(1)) || !w.exists(t, w.key(3)) {
		t.Error("keys of other rows are gone")
	}
	w.enqueue(t, row(2)) // an ordinary event afterwards writes it again
	w.drained(t)
	w.agree(t, 3)
}

func TestDrop_EveryKeyGoes(t *testing.T) {
	t.Parallel()
	w := shared(t)
	w.putKeys(t, nil)
	w.write(t, 1, "ann")
	lead(t, w.task(t))
	w.enqueue(t, named("ann"))
	w.drained(t)
	keys := []string{w.prefix + "name:ann", w.prefix + "{all}:ann"}
	for _, key := range keys {
		if !w.exists(t, key) {
			t.Fatalf("%s was not written", key)
		}
	}
	w.drop(t, named("ann"))
	w.drained(t)
	for _, key := range keys {
		if w.exists(t, key) {
			t.Errorf("%s is still there", key)
		}
	}
}

// A batch of both kinds reads the rows of one kind only, and each row becomes what its event asks for.
func TestDrop_AndOrdinaryEventsShareABatch(t *testing.T) {
	t.Parallel()
	w := shared(t)
	const count = 200
	w.delivered(t, count)
	w.exec(t, "UPDATE items SET v = 'newer'")
	read := w.counting(nil)
	w.drop(t, rows(1, 101)...)
	w.enqueue(t, rows(101, count+1)...)
	lead(t, w.task(t))
	w.drained(t)
	for id := 1; id <= count; id++ {
		want := ""
		if id > 100 {
			want = value(id, "newer", 1)
		}
		if got := w.cached(t, id); got != want {
			t.Fatalf("row %d: %q, want %q", id, got, want)
		}
	}
	if read.Load() != 100 {
		t.Errorf("%d rows were read, want 100", read.Load())
	}
}

// racing enqueues an ordinary event while the removal of row 1 is between its begin and its write.
func racing(t *testing.T, w *world) {
	t.Helper()
	w.delivered(t, 1)
	var once sync.Once
	w.steps().beforeApply = func(context.Context, []rediscache.Guarded) {
		once.Do(func() {
			w.write(t, 1, "newer")
			w.enqueue(t, row(1))
		})
	}
	w.drop(t, row(1))
	lead(t, w.task(t))
	w.drained(t)
}

func TestDrop_NewerOrdinaryEventPrevails(t *testing.T) {
	t.Parallel()
	w := shared(t)
	racing(t, w)
	w.agree(t, 1)

	// Neither does a removal take the place of an ordinary event that is still pending.
	w.log.must(t, fsm.PauseOutbox{Scope: fsm.PauseAll})
	w.write(t, 1, "newest")
	w.enqueue(t, row(1))
	w.drop(t, row(1))
	w.log.must(t, fsm.ResumeOutbox{Scope: fsm.PauseAll})
	w.drained(t)
	w.agree(t, 1)
}

// The control: were a removal to settle whatever is pending, the row would stay without its key.
func TestDrop_NegativeControl_SettlingTheNewerEventLosesTheRow(t *testing.T) {
	t.Parallel()
	w := shared(t)
	w.log.setTamper(func(ops []fsm.Op) tampered {
		for i := range ops {
			if settle, ok := ops[i].Command.(fsm.SettleEvents); ok {
				for j := range settle.Events {
					settle.Events[j].Token = fsm.TokenMax
				}
			}
		}
		return tampered{ops: ops}
	})
	racing(t, w)
	if w.exists(t, w.key(1)) {
		t.Error("the key is there: this test does not show what the token is for")
	}
}

// A removal that comes late changes nothing: its token is older than that of what was written since.
func TestDrop_LateRemovalIsSuperseded(t *testing.T) {
	t.Parallel()
	w := shared(t)
	w.delivered(t, 1)
	var once sync.Once
	w.steps().beforeApply = func(ctx context.Context, writes []rediscache.Guarded) {
		once.Do(func() {
			batch, err := w.target.Begin(ctx, nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer batch.Close()
			newer := mapping.Write{Key: writes[0].Write.Key, Guard: writes[0].Write.Guard, Op: mapping.OpSet, Value: []byte("newer")}
			if _, err := batch.Apply(ctx, []rediscache.Guarded{{Token: writes[0].Token + 1, Write: newer}}); err != nil {
				t.Error(err)
			}
		})
	}
	w.drop(t, row(1))
	lead(t, w.task(t))
	w.drained(t)
	if got := w.cached(t, 1); got != "newer" {
		t.Errorf("%q", got)
	}
}

func TestDrop_WaitsForNoRowThatCannotBeRead(t *testing.T) {
	t.Parallel()
	w := shared(t)
	w.delivered(t, 2)
	w.write(t, 2, "newer")
	var down atomic.Bool
	down.Store(true)
	w.counting(func() error {
		if down.Load() {
			return mysql.ErrUnreachable
		}
		return nil
	})
	w.drop(t, row(1))
	w.enqueue(t, row(2))
	lead(t, w.task(t))
	eventually(t, "the removal is settled", func() bool { _, pending := w.log.event(row(1)); return !pending })
	if w.exists(t, w.key(1)) {
		t.Error("the key is there")
	}
	if _, pending := w.log.event(row(2)); !pending {
		t.Error("a row that could not be read is settled")
	}
	down.Store(false)
	w.drained(t)
	if got := w.cached(t, 2); got != value(2, "newer", 2) {
		t.Errorf("%q", got)
	}
}

// A missing row may leave something under its key; a removal never does.
func TestDrop_LeavesNothingThatAMissingRowWould(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*mapping.Spec)
		held   string
	}{
		"foreign fields of a hash": {func(s *mapping.Spec) { s.Encoding = mapping.Hash }, "HSET %s v old foreign field"},
		"the value of no row":      {func(s *mapping.Spec) { s.NegativeTTLMillis = 60_000 }, "SET %s old"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := shared(t)
			spec := w.spec()
			test.change(&spec)
			w.putMapping(t, mappingName, spec)
			w.redis(t, fmt.Sprintf(test.held, w.key(1)))
			lead(t, w.task(t))
			w.drop(t, row(1))
			w.drained(t)
			if w.exists(t, w.key(1)) {
				t.Error("the key is there")
			}
		})
	}
}

// An event that is older than its rule gets a new token, and stays a removal.
func TestDrop_StaysARemovalUnderANewRule(t *testing.T) {
	t.Parallel()
	w := shared(t)
	w.delivered(t, 1)
	w.drop(t, row(1))
	spec := w.spec()
	spec.TTLMillis = 600_000
	w.putMapping(t, mappingName, spec)
	lead(t, w.task(t))
	w.drained(t)
	if w.exists(t, w.key(1)) {
		t.Error("the removal wrote the row")
	}
}
