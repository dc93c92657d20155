package reconcile

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/fsm"
)

// aheadLog is a log whose clock a test moves.
type aheadLog struct {
	*testLog
	ahead *atomic.Int64
}

func (l aheadLog) Now() uint64 { return l.testLog.Now() + uint64(l.ahead.Load()) }

// sampled is a task with the looks under way, and its clock.
type sampled struct {
	*Task
	ahead *atomic.Int64
}

func (s sampled) pass(d time.Duration) { s.ahead.Add(d.Milliseconds()) }

func sampling(w *world) sampled {
	w.t.Helper()
	ahead := new(atomic.Int64)
	task := sampled{w.task(func(p *Parts) { p.Log = aheadLog{w.log, ahead} }), ahead}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- task.watchAgreement(ctx, 20*time.Millisecond) }() // joined below
	w.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
	})
	return task
}

func (w *world) offer(task sampled, i int, age time.Duration) {
	w.t.Helper()
	ref := w.ref(i)
	task.Offer([]fsm.Event{{Mapping: ref.Mapping, PK: ref.PK, Token: 1, EnqueuedAt: task.Log.Now() - uint64(age.Milliseconds())}})
}

// counted waits for counts in the form "looked agreed" for each window.
func (w *world) counted(task sampled, want string) {
	w.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		got := ""
		for _, a := range task.Agreement() {
			got += fmt.Sprintf("%d %d, ", a.Looked, a.Agreed)
		}
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("counts %q, want %q", got, want)
		}
		<-time.After(20 * time.Millisecond)
	}
}

func TestAgreement_WhatAgreesOnceAgreesInEveryLongerTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 10, nil)
	task := sampling(w)
	w.offer(task, 1, 0)
	task.pass(10 * time.Second)
	w.counted(task, "1 1, 1 1, 1 1, ")
}

func TestAgreement_LateAndNever(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 10, nil)
	task := sampling(w)
	right := w.cache.do("GET", w.key(1))
	w.cache.do("SET", w.key(1), `{"old":true}`)
	w.cache.do("SET", w.key(2), `{"old":true}`)
	w.offer(task, 1, 0)
	task.pass(10 * time.Second)
	w.counted(task, "1 0, 0 0, 0 0, ")
	w.cache.do("SET", w.key(1), right)
	task.pass(50 * time.Second)
	w.counted(task, "1 0, 1 1, 1 1, ")
	w.offer(task, 2, 0)
	for i, want := range []string{"2 0, 1 1, 1 1, ", "2 0, 2 1, 1 1, ", "2 0, 2 1, 2 1, "} {
		task.pass([]time.Duration{10 * time.Second, 50 * time.Second, 4 * time.Minute}[i])
		w.counted(task, want)
	}
}

// A delivery that was held up for longer than a window has missed it, whatever its key holds.
func TestAgreement_DeliveryThatBeginsLateHasMissedItsWindows(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 10, nil)
	task := sampling(w)
	w.offer(task, 1, 2*time.Minute)
	task.pass(3 * time.Minute)
	w.counted(task, "1 0, 1 0, 1 1, ")
}

// A row that has a newer event may differ because of it: it says nothing about the older one. One that is still the same has missed its window.
func TestAgreement_NewerEventLeavesTheOlderOneOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 10, nil)
	task := sampling(w)
	w.cache.do("SET", w.key(1), `{"old":true}`)
	w.log.must(t, fsm.EnqueueEvents{Events: []fsm.RowRef{w.ref(1)}})
	w.offer(task, 1, 0) // its token is older
	w.cache.do("SET", w.key(2), `{"old":true}`)
	own := w.log.must(t, fsm.EnqueueEvents{Events: []fsm.RowRef{w.ref(2)}}).Outbox.Tokens[0].Token
	ref := w.ref(2)
	task.Offer([]fsm.Event{{Mapping: ref.Mapping, PK: ref.PK, Token: own, EnqueuedAt: task.Log.Now()}})
	for i, want := range []string{"1 0, 0 0, 0 0, ", "1 0, 1 0, 0 0, ", "1 0, 1 0, 1 0, "} {
		task.pass([]time.Duration{10 * time.Second, 50 * time.Second, 4 * time.Minute}[i])
		w.counted(task, want)
	}
}

func TestAgreement_RowThatIsGoneAgreesWithoutItsKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 10, nil)
	task := sampling(w)
	w.exec("DELETE FROM orders WHERE id IN (?, ?)", id(1), id(2))
	w.cache.do("DEL", w.key(1))
	w.offer(task, 1, 0)
	task.pass(10 * time.Second)
	w.counted(task, "1 1, 1 1, 1 1, ")
	w.offer(task, 2, 0)
	task.pass(10 * time.Second)
	w.counted(task, "2 1, 1 1, 1 1, ")
}

// Each event has the same chance, whatever their number, and retries, repairs and removals are not offered again.
func TestAgreement_SampleIsBoundedAndDrawnFromAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, nil)
	w.config.SamplesPerSecond = 50
	task := w.task(nil)
	a := task.agreement
	batch := make([]fsm.Event, 1_000)
	for i := range batch {
		batch[i] = fsm.Event{Mapping: "orders", PK: `["` + strconv.Itoa(i) + `"]`, Token: uint64(i), EnqueuedAt: w.log.Now()}
	}
	task.Offer(batch) // the first second knows no rate
	a.begin(0)
	a.watched = nil
	late := 0
	for range 40 {
		task.Offer(batch)
		if len(a.watched) > 50 {
			t.Fatalf("%d samples in a second", len(a.watched))
		}
		for _, x := range a.watched {
			if x.token >= 500 {
				late++
			}
		}
		a.begin(0)
		a.watched = nil
	}
	if late < 600 { // of some 1,800, of which half are late ones
		t.Errorf("%d samples are of the second half", late)
	}
	task.Offer([]fsm.Event{{Mapping: "orders", PK: `["1"]`, Attempts: 1}, {Mapping: "orders", PK: `["1"]`, Pass: 7}, {Mapping: "orders", PK: `["1"]`, Drop: true}})
	if a.offered != 0 {
		t.Errorf("%d of them count", a.offered)
	}
}
