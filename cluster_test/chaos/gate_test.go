package chaos

import (
	"strings"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/cluster_test/history"
)

// Each thing that a run must have seen is missing once: the run is invalid, and says why.
func TestRun_IsInvalidWithoutTrafficFaultsOrControls(t *testing.T) {
	t.Parallel()
	whole := worthy(t)
	if whole.conclude(); len(whole.wrong) != 0 {
		t.Fatalf("a run that has seen everything: %v", whole.wrong)
	}
	for missing, lose := range map[string]func(r *run){
		"enough traffic":           func(r *run) { r.answers = 3 },
		"waits were granted":       func(r *run) { r.waited = 0 },
		"sessions expired":         func(r *run) { r.expired = 0 },
		"outcomes stayed unknown":  func(r *run) { r.unknown = 0 },
		"rounds of permits":        func(r *run) { delete(r.rounds, "permits") },
		"fault fired: leadership":  func(r *run) { delete(r.faults, "leadership transfer") },
		"negative control refused": func(r *run) { delete(r.lies, history.Lies[0]) },
		"2 tokens of all locks":    func(r *run) { r.histories = append(r.histories, r.histories[0]) },
	} {
		r := worthy(t)
		lose(r)
		if r.conclude(); len(r.wrong) != 1 || !strings.Contains(r.wrong[0], missing) {
			t.Errorf("without %q: %v", missing, r.wrong)
		}
		if report := r.report(); report.Failed != 1 || report.Passed == 0 {
			t.Errorf("%+v", report)
		}
	}
}

// worthy is a run that has seen all it must.
func worthy(t *testing.T) *run {
	r := &run{t: silent{t}, began: time.Now().Add(-10 * time.Second), answers: 1_000, waited: grantsAfterWait, expired: 1, unknown: 1,
		rounds: map[string]int{}, faults: map[string]int{}, lies: map[string]int{}}
	r.histories = []history.History{{Ops: []history.Op{{ID: 1, Kind: history.Acquire, Session: "a", Wants: []history.Want{{Name: "x"}},
		Outcome: history.Granted, Got: []history.Grant{{Name: "x", Token: 1}}, Call: 1, Return: 2}}}}
	for _, k := range kinds {
		r.rounds[k.name] = 1
	}
	for _, f := range faults {
		r.faults[f.name] = 1
	}
	for _, lie := range history.Lies {
		r.lies[lie] = 1
	}
	return r
}

// silent is a test that is told of failures and does not fail: they are what is tested.
type silent struct{ testing.TB }

func (silent) Errorf(string, ...any) {}
func (silent) Log(...any)            {}
