package outbox_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/cluster_test/services"
	"github.com/quiescehq/quiesce/outbox"
	"github.com/quiescehq/quiesce/rediscache"
)

// A Redis whose clock was set back, or that took over from one whose clock was ahead, has invalidates of the future. Their keys have to wait until that moment has come, for
// what is read now may be older than the invalidate. They wait for it at nobody's expense, and other keys do not wait at all.
func TestClock_InvalidateOfAClockThatWasAheadHoldsUpItsKeyAlone(t *testing.T) {
	t.Parallel()
	w := shared(t)
	const ahead, count = 1_500, 20
	w.fill(t, count)
	end := w.redisMillis(t) + ahead
	w.redis(t, fmt.Sprintf("HSET %s b %d", w.guard(1), end))
	task := w.task(t)
	lead(t, task)
	w.enqueueAll(t, count)
	eventually(t, "all others are delivered", func() bool { return w.log.pending(mappingName) == 1 })
	eventually(t, "the event says what it waits for", func() bool {
		e, ok := w.log.event(row(1))
		return ok && e.Failure == outbox.ClassFenced && e.Attempts == 0 || !ok && w.redisMillis(t) > end
	})
	w.drained(t)
	if now := w.redisMillis(t); now <= end {
		t.Errorf("written %d ms before the invalidate", end-now)
	}
	w.agree(t, count)
	if b := breaker(task, "target"); b.LastClass != "" {
		t.Errorf("the target is blamed: %+v", b)
	}
}

// redisMillis is the clock of Redis.
func (w *world) redisMillis(t testing.TB) int64 {
	t.Helper()
	reply := w.redis(t, `EVAL "local t=redis.call('TIME') return t[1]*1000+math.floor(t[2]/1000)" 0`)
	n, err := strconv.ParseInt(strings.TrimPrefix(reply, ":"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// The clock of Redis jumps ahead between Begin and Apply, beyond the deadline. What was under way is refused, as the packet of a dead leader would be, and read again; no event
// pays for it. Whether the clock went or the time makes no difference to the script, so here the time goes.
func TestClock_JumpAheadInMidBatchIsReadAgain(t *testing.T) {
	t.Parallel()
	const count = 40
	place := services.Require(t)
	w := newWorld(t, place.MySQLDSN, place.RedisAddr, place.Prefix, time.Second)
	w.fill(t, count)
	var first sync.Once
	late := make(chan []rediscache.Outcome, 1)
	steps := w.steps()
	steps.beforeApply = func(ctx context.Context, _ []rediscache.Guarded) {
		first.Do(func() {
			w.exec(t, "UPDATE items SET n = n + 1") // what was read is old
			began := w.redisMillis(t)
			eventually(t, "the deadline has passed", func() bool { return w.redisMillis(t) > began+time.Second.Milliseconds() })
		})
	}
	steps.afterApply = func(_ []rediscache.Guarded, outcomes []rediscache.Outcome, err error) error {
		select {
		case late <- outcomes:
		default:
		}
		return err
	}
	task := w.task(t)
	w.enqueueAll(t, count)
	lead(t, task)
	for i, o := range <-late {
		if o != rediscache.OutcomeTooLate {
			t.Fatalf("outcome %d is %v, want %v", i, o, rediscache.OutcomeTooLate)
		}
	}
	w.drained(t)
	w.agree(t, count)
	if m := task.Stats().Mappings[0]; m.Dead != 0 || m.Failed != 0 {
		t.Errorf("%+v", m)
	}
}
