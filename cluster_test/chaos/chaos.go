package chaos

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/cluster_test/harness"
	"github.com/quiescehq/quiesce/cluster_test/history"
)

const (
	lanes           = 6
	judgeEach       = 30 * time.Second // a part that takes longer is undecided, which is wrong
	liesEach        = 5                // how often each lie is told: the first occasions
	answersMin      = 12               // a second: a run with less traffic has shown nothing
	grantsAfterWait = 10
	complaintsMax   = 10
)

// Options of a run.
type Options struct {
	Seed uint64
	For  time.Duration // how long at least; each kind of fault comes once in any case
	Dir  string        // where wrong histories are left
}

// Report is the result of a run.
type Report struct {
	Passed, Failed int
	Text           string
}

// run is one run.
type run struct {
	t     testing.TB
	c     *harness.Cluster
	o     Options
	began time.Time
	stop  atomic.Bool // no new rounds, and no new steps of clients

	mu         sync.Mutex
	passed     int
	wrong      []string
	histories  []history.History
	rounds     map[string]int
	answers    int
	unknown    int
	waited     int // grants to waits
	expired    int
	operations int
	largest    int
	lies       map[string]int
	faults     map[string]int
}

// Run plays a run and judges it. What is wrong fails the test.
func Run(t testing.TB, o Options) Report {
	t.Helper()
	t.Logf("seed %d", o.Seed)
	r := &run{t: t, o: o, c: harness.Start(t, harness.Options{Links: true}), began: time.Now(), rounds: map[string]int{}, lies: map[string]int{}, faults: map[string]int{}}
	ctx, cancel := context.WithCancel(context.Background())
	var joined sync.WaitGroup
	defer joined.Wait() // also when a fault ends the test: then in the midst of rounds
	defer cancel()
	defer r.stop.Store(true)
	var number atomic.Uint64
	for range lanes {
		joined.Go(func() {
			for !r.stop.Load() {
				r.play(ctx, number.Add(1))
			}
		})
	}
	r.inflict(ctx, rand.New(rand.NewPCG(o.Seed, 0)))
	r.stop.Store(true)
	joined.Wait()
	r.c.AwaitWhole()
	r.c.AwaitSameState()
	r.pass("all nodes have the same state")
	r.conclude()
	return r.report()
}

// play plays one round and judges it.
func (r *run) play(ctx context.Context, n uint64) {
	p := newRound(r, n)
	p.play(ctx)
	h := p.record.History()
	r.count(p.kind.name, h)
	for i, v := range history.Check(h, judgeEach) {
		if v.Wrong == nil {
			r.pass("")
			continue
		}
		name := fmt.Sprintf("round-%d-%d", n, i)
		r.complain("%s round %d: %v; see %s", p.kind.name, n, v.Wrong, filepath.Join(r.o.Dir, name+".json"))
		if err := v.Write(r.o.Dir, name); err != nil {
			r.complain("%v", err)
		}
	}
	r.lie(h)
}

// count takes the figures of a history that say whether the run is worth anything.
func (r *run) count(kind string, h history.History) {
	finished := map[string]bool{}
	for _, o := range h.Ops {
		finished[o.Session] = finished[o.Session] || o.Kind == history.Finish
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rounds[kind]++
	r.histories = append(r.histories, h)
	r.operations += len(h.Ops)
	r.largest = max(r.largest, len(h.Ops))
	for _, o := range h.Ops {
		switch {
		case o.Outcome == history.Unknown:
			r.unknown++
			continue
		case o.Kind == history.Attach && o.Outcome == history.Granted:
			r.waited++
		case o.Kind == history.Renew && !finished[o.Session]:
			r.expired++
		}
		r.answers++
	}
}

// lie has the history judged with a lie in it, until each lie was told a few times.
func (r *run) lie(h history.History) {
	for _, s := range history.Spoil(h) {
		r.mu.Lock()
		enough := r.lies[s.Lie] >= liesEach
		r.mu.Unlock()
		if enough {
			continue
		}
		accepted := !slices.ContainsFunc(history.Check(s.History, judgeEach), func(v history.Verdict) bool { return v.Wrong != nil })
		if accepted {
			r.complain("negative control: nothing was found wrong where %s", s.Lie)
			continue
		}
		r.mu.Lock()
		r.lies[s.Lie]++
		r.mu.Unlock()
	}
}

// conclude judges the run as a whole.
func (r *run) conclude() {
	took := time.Since(r.began)
	grants, err := history.CheckTokens(r.histories...)
	r.check(err == nil, "%d tokens of all locks rise: %v", grants, err)
	r.check(r.answers >= int(answersMin*took.Seconds()), "enough traffic: %d answers in %s", r.answers, took.Round(time.Second))
	r.check(r.waited >= grantsAfterWait, "waits were granted: %d", r.waited)
	r.check(r.expired > 0, "sessions expired: %d", r.expired)
	r.check(r.unknown > 0, "outcomes stayed unknown: %d", r.unknown)
	for _, k := range kinds {
		r.check(r.rounds[k.name] > 0, "rounds of %s: %d", k.name, r.rounds[k.name])
	}
	for _, f := range faults {
		r.check(r.faults[f.name] > 0, "fault fired: %s, %d times", f.name, r.faults[f.name])
	}
	for _, lie := range history.Lies {
		r.check(r.lies[lie] > 0, "negative control refused: %s, %d times", lie, r.lies[lie])
	}
}

func (r *run) check(ok bool, format string, a ...any) {
	text := fmt.Sprintf(format, a...)
	if !ok {
		r.complain("not so: %s", text)
		return
	}
	r.pass(text)
}

func (r *run) pass(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.passed++
	if text != "" {
		r.t.Log(text)
	}
}

// complain notes what is wrong. Any goroutine may.
func (r *run) complain(format string, a ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wrong = append(r.wrong, fmt.Sprintf(format, a...))
	if len(r.wrong) <= complaintsMax {
		r.t.Errorf(format, a...)
	}
}

func (r *run) report() Report {
	var rounds []string
	for _, name := range slices.Sorted(maps.Keys(r.rounds)) {
		rounds = append(rounds, fmt.Sprintf("%d %s", r.rounds[name], name))
	}
	text := fmt.Sprintf("seed %d: %d operations (%d answered, %d unknown, the largest history has %d) in rounds: %s",
		r.o.Seed, r.operations, r.answers, r.unknown, r.largest, strings.Join(rounds, ", "))
	r.t.Log(text)
	return Report{Passed: r.passed, Failed: len(r.wrong), Text: text}
}
