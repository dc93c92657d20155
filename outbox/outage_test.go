package outbox_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/mysql"
	"github.com/quiescehq/quiesce/rediscache"
)

// Three hours without a place, while events go on to come. What waits must not pay for it: no attempt is spent, nothing dies, the age is told, the place is asked once
// in each pause of its breaker, and all is delivered within two of them after its return. Retries that had doubled their delay all the time would wait for another hour or two.
func TestOutage_ThreeHoursAreForgottenWithinTwoPauses(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"target", "source"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { longOutage(t, kind) })
		})
	}
}

func longOutage(t *testing.T, kind string) {
	const (
		length   = 3 * time.Hour
		pause    = 5 * time.Second
		recovery = 2*pause + time.Second
		backlog  = 2_000
		between  = 10 * time.Minute
		atATime  = 100
	)
	var down atomic.Bool
	down.Store(true)
	var asked, entries atomic.Int64
	answer := func(concerned bool, err error) error {
		if !concerned {
			return nil
		}
		asked.Add(1)
		if !down.Load() {
			return nil
		}
		return fmt.Errorf("%w: staged", err)
	}
	target := &fakeTarget{begin: func(int64) error { return answer(kind == "target", rediscache.ErrUnreachable) }}
	source := sourceFunc(func(context.Context, *mapping.Mapping, [][]string) (map[string]*mapping.Row, error) {
		return nil, answer(kind == "source", mysql.ErrUnreachable)
	})
	w := bubble(t, source, target)
	w.cfg.BreakerOpen = pause
	w.log.setTamper(func(ops []fsm.Op) tampered { entries.Add(1); return tampered{ops: ops} })
	task := w.task(t)
	resign := lead(t, task)
	w.enqueueAll(t, backlog)
	count := backlog
	for range int(length / between) {
		<-time.After(between)
		w.enqueue(t, rows(count+1, count+1+atATime)...) // new ones
		w.enqueue(t, rows(1, 11)...)                    // and some that wait already
		count += atATime
	}
	m := task.Stats().Mappings[0]
	if m.Pending != count || m.Dead != 0 || m.Delivered != 0 {
		t.Errorf("%d of %d events wait, %d are dead, %d were delivered", m.Pending, count, m.Dead, m.Delivered)
	}
	if age := time.Duration(m.OldestMs) * time.Millisecond; age < length || age > length+time.Minute {
		t.Errorf("the oldest is told to wait for %v", age)
	}
	if spent := attemptsSpent(w); spent != 0 {
		t.Errorf("%d attempts were spent", spent)
	}
	if b := breaker(task, kind); b.State == "closed" || b.LastClass == "" {
		t.Errorf("the breaker is %+v", b)
	}
	if want := int64(length/pause) * 11 / 10; asked.Load() > want || entries.Load() > want {
		t.Errorf("it was asked %d times, with %d entries of the log; want about one of each in %v", asked.Load(), entries.Load(), pause)
	}
	longestWait(t, w, pause)
	down.Store(false)
	<-time.After(recovery)
	synctest.Wait()
	if left := w.log.pending(mappingName); left != 0 || w.log.dead(mappingName) != 0 {
		t.Errorf("%v after the end %d events still wait, %d are dead", recovery, left, w.log.dead(mappingName))
	}
	if m := task.Stats().Mappings[0]; m.OldestMs != 0 || m.Delivered != uint64(count) {
		t.Errorf("after the end: %+v", m)
	}
	resign()
}

// longestWait fails when an event is not to be tried for longer than that.
func longestWait(t *testing.T, w *world, most time.Duration) {
	t.Helper()
	now := w.log.Now()
	w.log.View(func(s *fsm.State) {
		s.Events(fsm.RowRef{}, func(e fsm.Event) bool {
			if e.NextAt > now+uint64(most.Milliseconds())+1 {
				t.Errorf("%s is to wait for another %d ms", e.PK, e.NextAt-now)
				return false
			}
			return true
		})
	})
}
