package solo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/quiescehq/quiesce/fsm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func put(name string) fsm.Op {
	return fsm.Op{Command: fsm.PutMapping{Name: name, Source: "s", Target: "c", Table: "t", Spec: []byte("{}"), Columns: []byte("[]")}}
}

func TestLog_CommandsPassThroughTheirEncoding(t *testing.T) {
	t.Parallel()
	l := New("n1")
	spec := []byte("{}")
	results, err := l.Propose(t.Context(), fsm.Op{Command: fsm.PutMapping{Name: "a", Source: "s", Target: "c", Table: "t", Spec: spec, Columns: []byte("[]")}}, put("b"))
	if err != nil || len(results) != 2 || results[0].Refused() || results[1].Refused() {
		t.Fatalf("%+v, %v", results, err)
	}
	copy(spec, "XX") // the state has its own copy, as behind a network
	l.View(func(s *fsm.State) {
		if a, _ := s.Mapping("a"); string(a.Spec) != "{}" {
			t.Errorf("the state shares memory with its caller: %s", a.Spec)
		}
	})
	if r := l.Do(fsm.StartPass{Mapping: "none", PassOptions: fsm.PassOptions{Mode: fsm.PassDryRun}}); r.Code != fsm.CodeMappingNotFound {
		t.Errorf("%+v", r)
	}
}

func TestLog_WakesWhoWatches(t *testing.T) {
	t.Parallel()
	l := New("n1")
	all, stopAll := l.Watch("mappings", "")
	defer stopAll()
	one, stopOne := l.Watch("mappings", "b")
	defer stopOne()
	other, stopOther := l.Watch("sessions", "")
	defer stopOther()
	ended, stop := l.Watch("mappings", "")
	stop()
	l.Do(put("a").Command)
	l.Do(put("a2").Command) // coalesced
	if len(all) != 1 || len(one) != 0 || len(other) != 0 || len(ended) != 0 {
		t.Errorf("woken: %d %d %d %d", len(all), len(one), len(other), len(ended))
	}
	l.Do(put("b").Command)
	if len(one) != 1 {
		t.Error("the row's own watch sleeps")
	}
	l.Advance(time.Second)
	if len(other) != 1 {
		t.Error("nobody was told that time went by")
	}
}

func TestLog_TimeIsTheProcesssAndOnlyGoesForward(t *testing.T) {
	t.Parallel()
	l := New("n1")
	before := l.Now()
	l.Advance(time.Hour)
	after := l.Now()
	if after < before+3_600_000 {
		t.Errorf("%d, then %d", before, after)
	}
	l.Do(put("a").Command)
	l.View(func(s *fsm.State) {
		if s.Now() < after {
			t.Errorf("the state is at %d, the log was at %d", s.Now(), after)
		}
	})
}

func TestLog_InterceptLosesEntriesOrAnswers(t *testing.T) {
	t.Parallel()
	l, lost := New("n1"), errors.New("lost")
	l.Intercept(func(_ context.Context, ops []fsm.Op, apply func() []fsm.Result) ([]fsm.Result, error) {
		if strings.HasPrefix(ops[0].Command.(fsm.PutMapping).Name, "applied") {
			apply()
		}
		return nil, lost
	})
	for _, name := range []string{"applied", "dropped"} {
		if _, err := l.Propose(t.Context(), put(name)); !errors.Is(err, lost) {
			t.Errorf("%s: %v", name, err)
		}
	}
	l.Intercept(nil)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Propose(ended, put("late")); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	l.View(func(s *fsm.State) {
		for name, want := range map[string]bool{"applied": true, "dropped": false, "late": false} {
			if _, have := s.Mapping(name); have != want {
				t.Errorf("%s: %v", name, have)
			}
		}
	})
}

func TestLog_IsForManyGoroutines(t *testing.T) {
	t.Parallel()
	l := New("n1")
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for n := range 50 {
				wake, stop := l.Watch("sessions", "")
				l.Do(fsm.OpenSession{ID: fmt.Sprintf("%d-%d", i, n), TTLMs: 10_000})
				<-wake
				l.View(func(s *fsm.State) { s.Revision() })
				l.Now()
				stop()
			}
		})
	}
	group.Wait()
}
