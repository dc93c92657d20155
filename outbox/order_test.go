package outbox_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/rediscache"
)

// The proof of the protocol needs: the token is there, then begin, then read, then apply. A row that was read before the begin could be older than an invalidate that the begin
// does not see.
func TestDelivery_TokenThenBeginThenReadThenApply(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var steps []string
		note := func(format string, args ...any) (count int) {
			mu.Lock()
			defer mu.Unlock()
			steps = append(steps, fmt.Sprintf(format, args...))
			return len(steps)
		}
		target := &fakeTarget{}
		target.begin = func(int64) error { note("begin"); return nil }
		target.apply = func(writes []rediscache.Guarded) []rediscache.Outcome {
			if note("apply %d", writes[0].Token) == 3 {
				return all(writes, rediscache.OutcomeBeganBeforeInvalidate)
			}
			return all(writes, rediscache.OutcomeApplied)
		}
		var w *world
		source := sourceFunc(func(context.Context, *mapping.Mapping, [][]string) (map[string]*mapping.Row, error) {
			if note("read") < 6 {
				w.enqueue(t, row(1)) // too late for what is being read
			}
			return nil, nil
		})
		w = bubble(t, source, target)
		token := w.enqueue(t, row(1))[0].Token
		resign := lead(t, w.task(t))
		<-time.After(time.Second)
		resign()
		want := fmt.Sprintf("[begin read apply %d begin read apply %d begin read apply %d]", token, token, token+2)
		if got := fmt.Sprint(steps); got != want {
			t.Errorf("the steps were %s, want %s", got, want)
		}
	})
}
