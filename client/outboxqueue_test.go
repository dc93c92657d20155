package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client/quiescetest"
)

const outboxPath = "/v1/outbox/events"

// cacheDiary is an Invalidator that notes what it is asked, and fails at first if it is to.
type cacheDiary struct {
	diary
	failing int
}

func (c *cacheDiary) Invalidate(_ context.Context, keys ...string) error {
	c.note(strings.Join(keys, " "))
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failing--; c.failing >= 0 {
		return errors.New("no cache")
	}
	return nil
}

func syncApp(t *testing.T, cache Invalidator, opts ...Option) (*quiescetest.Coordinator, *App, *Sync) {
	t.Helper()
	coordinator, addr := start(t)
	must(t, coordinator.PutMapping("orders"))
	app := join(t, addr, opts...)
	return coordinator, app, app.Sync(cache)
}

func order(i int) Change {
	return Change{Mapping: "orders", PK: i, CacheKeys: []string{fmt.Sprint("order:", i)}}
}

func TestSync_LaterEventsGoInFullRequestsOneAtATime(t *testing.T) {
	t.Parallel()
	coordinator, _, s := syncApp(t, nil)
	coordinator.Hang()
	must(t, s.EnqueueLater(order(0)))
	eventually(t, "the first is on its way", func() bool { return len(coordinator.Requests(outboxPath)) == 1 })
	const rows = 2*api.EventsMax + 1
	for i := range rows {
		must(t, s.EnqueueLater(order(i)))
	}
	if n := s.Waiting(); n != rows {
		t.Errorf("%d rows wait", n)
	}
	coordinator.Resume()
	eventually(t, "all were taken", func() bool { return s.Waiting() == 0 })
	requests := coordinator.Requests(outboxPath)
	if n := len(requests); n != 4 {
		t.Errorf("%d requests", n)
	}
	for _, r := range requests {
		if r.Key == "" {
			t.Error("a request without a key")
		}
	}
	if n := len(coordinator.Events()); n != rows+1 { // the first was committed again while it was on its way
		t.Errorf("%d events", n)
	}
}

func TestSync_WhatWasCommittedAgainIsSentAgain(t *testing.T) {
	t.Parallel()
	var cache cacheDiary
	coordinator, _, s := syncApp(t, &cache)
	coordinator.Hang()
	must(t, s.EnqueueLater(order(1)))
	eventually(t, "it is on its way", func() bool { return len(coordinator.Requests(outboxPath)) == 1 })
	must(t, s.EnqueueLater(order(1), order(1)))
	coordinator.Resume()
	eventually(t, "all were taken", func() bool { return s.Waiting() == 0 })
	if n := len(coordinator.Events()); n != 2 {
		t.Errorf("%d events, want one of each commit that was told apart", n)
	}
	if got := cache.read(); !slices.Equal(got, []string{"order:1", "order:1"}) {
		t.Errorf("invalidated %q", got)
	}
}

func TestSync_WhatIsNotTakenIsInvalidatedCountedAndSentAgain(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(*quiescetest.Coordinator){
		"full":      func(c *quiescetest.Coordinator) { c.FailNext(1_000, api.CodeOutboxFull, outboxPath) },
		"no leader": func(c *quiescetest.Coordinator) { c.FailNext(1_000, api.CodeNoLeader, outboxPath) },
		"unknown":   func(c *quiescetest.Coordinator) { c.FailNext(1_000, api.CodeOutcomeUnknown, outboxPath) },
		"broken":    func(c *quiescetest.Coordinator) { c.DropNext(1_000, outboxPath) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cache := cacheDiary{failing: 1}
			coordinator, app, s := syncApp(t, &cache)
			fault(coordinator)
			must(t, s.EnqueueLater(order(1), order(2)))
			eventually(t, "they are dirty", func() bool { return s.Dirty() == 2 })
			eventually(t, "they are invalidated in the end", func() bool { return len(cache.read()) >= 2 })
			if counters := app.readCounters(); counters["sync_queue"] != 2 || counters["sync_dirty"] != 2 {
				t.Errorf("counters: %v", counters)
			}
			coordinator.ClearFaults()
			eventually(t, "they are taken", func() bool { return s.Waiting() == 0 && s.Dirty() == 0 })
			if n := len(coordinator.Events()); n != 2 {
				t.Errorf("%d events", n)
			}
			if got := cache.read(); !slices.Equal(got, []string{"order:1 order:2", "order:1 order:2"}) {
				t.Errorf("invalidated %q", got)
			}
		})
	}
}

func TestSync_EnqueueInvalidatesFirstAndKeepsWhatIsNotTaken(t *testing.T) {
	t.Parallel()
	var cache cacheDiary
	coordinator, _, s := syncApp(t, &cache)
	tokens, err := s.Enqueue(within(t, 10*time.Second), order(1), order(2))
	if err != nil || len(tokens) != 2 || tokens[1].Token <= tokens[0].Token {
		t.Fatalf("%v, %v", tokens, err)
	}
	if _, err := s.Enqueue(t.Context(), Change{Mapping: "nowhere", PK: 1}); !errors.Is(err, ErrMappingNotFound) || errors.Is(err, ErrKept) {
		t.Errorf("a mapping that is not there: %v", err)
	}
	coordinator.FailNext(1, api.CodeOutboxFull, outboxPath)
	if _, err := s.Enqueue(t.Context(), order(3)); !errors.Is(err, ErrKept) || !errors.Is(err, ErrOutboxFull) {
		t.Errorf("a full outbox: %v", err)
	}
	eventually(t, "it is taken later", func() bool { return s.Waiting() == 0 && len(coordinator.Events()) == 3 })
	if got := cache.read(); !slices.Equal(got, []string{"order:1 order:2", "order:3"}) {
		t.Errorf("invalidated %q", got)
	}
}

func TestSync_OneRefusedEventIsNotTheOthers(t *testing.T) {
	t.Parallel()
	coordinator, app, s := syncApp(t, nil)
	changes := []Change{}
	for i := range 20 {
		changes = append(changes, order(i))
	}
	changes[13].Mapping = "nowhere"
	must(t, s.EnqueueLater(changes...))
	eventually(t, "all are settled", func() bool { return s.Waiting() == 0 })
	if len(coordinator.Events()) != 19 || s.Refused() != 1 || len(app.leftovers.notes) != 1 {
		t.Errorf("%d events, %d refused, notes %q", len(coordinator.Events()), s.Refused(), app.leftovers.notes)
	}
}

func TestSync_FlushWaitsForWhatIsDirty(t *testing.T) {
	t.Parallel()
	signals := make(quiescetest.Signals, 2)
	coordinator, app, s := syncApp(t, nil, Signals(signals), Grace(GraceDefault), LameDuck(1))
	app.budget.limit[PhaseFlush] = time.Minute
	coordinator.FailNext(1_000, api.CodeOutboxFull, outboxPath)
	must(t, s.EnqueueLater(order(1), order(2)))
	began := make(chan struct{})
	must(t, app.On(PhaseFlush, "told", func(context.Context) error {
		close(began)
		return nil
	}))
	code := run(app)
	signals.SendSIGTERM()
	<-began
	coordinator.ClearFaults()
	if got := exitCode(t, code); got != ExitClean {
		t.Errorf("exit code %d", got)
	}
	if n := len(coordinator.Events()); n != 2 {
		t.Errorf("%d events", n)
	}
}

func TestSync_WhatIsLeftAfterTheFlushIsReported(t *testing.T) {
	t.Parallel()
	signals := make(quiescetest.Signals, 2)
	coordinator, app, id, code := readyApp(t, Signals(signals), LameDuck(1))
	must(t, coordinator.PutMapping("orders"))
	s := app.Sync(nil)
	app.budget.limit[PhaseFlush] = 300 * time.Millisecond
	coordinator.FailNext(1_000, api.CodeOutboxFull, outboxPath)
	must(t, s.EnqueueLater(order(1), order(2)))
	must(t, app.On(PhaseClose, "late", func(context.Context) error { return s.EnqueueLater(order(3)) }))
	signals.SendSIGTERM()
	if got := exitCode(t, code); got != ExitLeftovers {
		t.Errorf("exit code %d", got)
	}
	var last *api.Leftovers
	for _, r := range phaseReports(t, coordinator, id) {
		if r.Leftovers != nil {
			last = r.Leftovers
		}
	}
	if last == nil || len(last.Keys) != 3 || len(last.Notes) != 1 || !strings.Contains(last.Notes[0], "flush: sync: 2 left") {
		t.Errorf("the last word: %+v", last)
	}
}

func TestSync_ADrainThatIsUndoneLeavesNothingReported(t *testing.T) {
	t.Parallel()
	coordinator, app, id, _ := readyApp(t, LameDuck(1))
	must(t, coordinator.PutMapping("orders"))
	s := app.Sync(nil)
	coordinator.FailNext(1_000_000, api.CodeOutboxFull, outboxPath)
	must(t, s.EnqueueLater(order(1), order(2)))
	app.budget.limit[PhaseFlush] = time.Minute
	must(t, coordinator.Drain(id))
	eventually(t, "what waits is reported", func() bool { return coordinator.Status(id).Leftovers == 2 })
	must(t, coordinator.Undo(id))
	eventually(t, "it serves again", func() bool { return app.serving() && app.leftovers.count() == 0 })
	must(t, s.EnqueueLater(order(3)))
	if n := app.leftovers.count(); n != 0 {
		t.Errorf("%d rows are reported of an instance that serves", n)
	}
	coordinator.ClearFaults()
	eventually(t, "all were taken", func() bool { return s.Waiting() == 0 && len(coordinator.Events()) == 3 })
}

func TestSync_IsBoundedAndRefusesWhatNamesNothing(t *testing.T) {
	t.Parallel()
	const most = 100
	s := &Sync{app: &App{}, wake: make(chan struct{}, 1), max: most, rows: map[string]*dirtyRow{}}
	for i := range most {
		must(t, s.EnqueueLater(order(i)))
	}
	must(t, s.EnqueueLater(order(0))) // waits already
	if err := s.EnqueueLater(order(most)); !errors.Is(err, ErrDirtyFull) || s.Waiting() != most {
		t.Errorf("one more: %v, %d wait", err, s.Waiting())
	}
	for _, c := range []Change{{}, {Mapping: "orders"}, {PK: 1}, {Mapping: "orders", PK: strings.Repeat("x", eventBytesMax)}} {
		if err := s.EnqueueLater(c); !errors.Is(err, ErrChange) {
			t.Errorf("%.40v: %v", c, err)
		}
	}
	if err := s.EnqueueLater(Change{Mapping: "orders", NewKey: 1.5}); !errors.Is(err, ErrPK) {
		t.Errorf("a fraction: %v", err)
	}
}

func TestSync_KeysMayBeNull(t *testing.T) {
	t.Parallel()
	event, err := Change{Mapping: "items", OldKey: []any{1, nil}, NewKey: []any{"a", uint64(1 << 63)}}.event()
	text, _ := json.Marshal(event)
	if err != nil || string(text) != `{"mapping":"items","old_key":["1",null],"new_key":["a","9223372036854775808"]}` {
		t.Errorf("%s, %v", text, err)
	}
}

func TestSync_UseFromManyGoroutinesLosesNothing(t *testing.T) {
	t.Parallel()
	coordinator, _, s := syncApp(t, nil)
	coordinator.FailNext(3, api.CodeOutboxFull, outboxPath)
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 200 {
				if err := s.EnqueueLater(order(g*1_000 + i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	eventually(t, "all were taken", func() bool { return s.Waiting() == 0 })
	seen := map[string]bool{}
	for _, e := range coordinator.Events() {
		seen[e.PK] = true
	}
	if len(seen) != 8*200 || s.Dirty() != 0 {
		t.Errorf("%d rows, %d dirty", len(seen), s.Dirty())
	}
}

func TestWaitEvent_TellsWhatBecameOfIt(t *testing.T) {
	t.Parallel()
	coordinator, app, s := syncApp(t, nil)
	tokens, err := s.Enqueue(within(t, 10*time.Second), order(1))
	must(t, err)
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Wait(short, "orders", 1, tokens[0]); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("pending: %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Wait(within(t, 20*time.Second), "orders", 1, tokens[0]) }()
	eventually(t, "it waits", func() bool { return len(coordinator.Requests("/v1/outbox/wait")) > 1 })
	must(t, coordinator.Deliver("orders", "1"))
	must(t, <-done)
	if err := app.Client().WaitEvent(t.Context(), "orders", 1, EventToken{Token: tokens[0].Token + 1_000}); !errors.Is(err, ErrEventUnknown) {
		t.Errorf("a token that nobody has: %v", err)
	}
	must(t, s.Wait(t.Context(), "orders", 1, EventToken{}))
}
