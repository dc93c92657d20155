package relay_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/solo"
)

var errOutcomeUnknown = errors.New("outcome unknown")

const clusterName = "c-test"

// memoryLog is a log of one replica with what the tests ask of it.
type memoryLog struct{ *solo.Log }

func newLog(testing.TB) *memoryLog { return &memoryLog{solo.New("n1")} }

func (l *memoryLog) ClusterID() string { return clusterName }

// stand puts something between the task and the log: it may block, refuse, or lose the entry or its answer.
func (l *memoryLog) stand(around func(ctx context.Context, command fsm.Command, apply func() fsm.Result) ([]fsm.Result, error)) {
	if around == nil {
		l.Intercept(nil)
		return
	}
	l.Intercept(func(ctx context.Context, ops []fsm.Op, apply func() []fsm.Result) ([]fsm.Result, error) {
		return around(ctx, ops[0].Command, func() fsm.Result { return apply()[0] })
	})
}

// must applies one command of the test, with nothing in between.
func (l *memoryLog) must(t testing.TB, command fsm.Command) fsm.Result {
	t.Helper()
	result := l.Do(command)
	if result.Refused() {
		t.Fatalf("%T refused: %s %s", command, result.Code, result.Detail)
	}
	return result
}

// later puts cluster time forward, and wakes those who wait for it.
func (l *memoryLog) later(d time.Duration) { l.Advance(d) }

func (l *memoryLog) event(mapping, pk string) (e fsm.Event, ok bool) {
	l.View(func(s *fsm.State) { e, ok = s.Event(fsm.RowRef{Mapping: mapping, PK: pk}) })
	return e, ok
}

func (l *memoryLog) pending() (n int) {
	l.View(func(s *fsm.State) { n = s.PendingCount() })
	return n
}

func (l *memoryLog) prepared(id uint64) (p fsm.Prepared, ok bool) {
	l.View(func(s *fsm.State) { p, ok = s.Prepared(id) })
	return p, ok
}
