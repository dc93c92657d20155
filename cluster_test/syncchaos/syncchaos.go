package syncchaos

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/cluster_test/syncchaos/writer"
)

const (
	complaintsMax = 12
	longRun       = 2 * time.Minute // from then on every kind of fault must have come
)

// Options of a run.
type Options struct {
	Seed   uint64
	For    time.Duration // how long faults come; the first of each group come in any case
	Writer string        // program that is writer.Main when EnvRole is set
	Keep   string        // folder for what a failed run leaves
}

// Report is the result of a run. A key counts once: as unequal if nothing explains it.
type Report struct {
	OK      bool    `json:"ok"`
	Seed    uint64  `json:"seed"`
	Seconds float64 `json:"seconds"`

	Verdict
	UnequalAfterPass int            `json:"unequal_after_pass"` // of all tiers
	RestSeconds      float64        `json:"rest_seconds"`       // from the end of the faults until nothing was under way
	Doubts           int            `json:"doubts"`             // of mappings, ended by passes that the product began
	Approved         int            `json:"approved"`           // passes that asked whether keys without a row may go: brought back by a dump, or left by a deletion of tier 1 that nobody called
	Redelivered      int            `json:"redelivered"`        // times that lost writes were made again
	Faults           map[string]int `json:"faults"`
	Controls         map[string]int `json:"controls"`
}

// run is one run.
type run struct {
	t      testing.TB
	o      Options
	rng    *rand.Rand
	began  time.Time
	world  *world
	apps   []*instance
	term   uint64    // of the leader, when it was last looked at
	termed time.Time // since when it was that
	lives  []life    // what was judged of the append-only file before its end was cut off
	report Report
	wrong  []string
}

// Run plays a run and judges it. What is wrong fails the test.
func Run(t testing.TB, o Options) Report {
	t.Helper()
	t.Logf("seed %d", o.Seed)
	r := &run{t: t, o: o, rng: rand.New(rand.NewPCG(o.Seed, 0)), report: Report{Seed: o.Seed, Faults: map[string]int{}, Controls: map[string]int{}}}
	r.world = newWorld(t)
	t.Cleanup(r.keep)
	r.startApps()
	r.began = time.Now()
	r.inflict()
	r.endApps()
	r.report.Seconds = time.Since(r.began).Seconds()
	ended := time.Now()
	r.awaitRest()
	r.report.RestSeconds = time.Since(ended).Seconds()
	r.judge()
	r.pass()
	r.control()
	r.conclude()
	r.report.OK = len(r.wrong) == 0
	t.Log(r.report.Line())
	return r.report
}

// keep saves what a failed run has left.
func (r *run) keep() {
	if !r.t.Failed() || r.o.Keep == "" {
		return
	}
	if err := os.CopyFS(r.o.Keep, os.DirFS(r.world.dir)); err != nil {
		r.t.Logf("the ledgers could not be kept: %v", err)
		return
	}
	r.t.Logf("ledgers and logs of the applications are in %s", r.o.Keep)
}

// judge compares everything once nothing is under way.
func (r *run) judge() {
	r.t.Helper()
	r.report.Verdict = r.look(r.evidence())
	r.settled()
}

// conclude judges the run as a whole.
func (r *run) conclude() {
	v := &r.report.Verdict
	r.check(v.Keys > 0 && v.Unequal == 0, "every key is as its row, but for commits of tier 1 that were told to nobody: %d of %d are not", v.Unequal, v.Keys)
	r.check(v.Lost == 0, "no accepted event is lost: %d", v.Lost)
	r.check(v.Backwards == 0 && v.GuardWrites > 0, "no token falls: %d of %d", v.Backwards, v.GuardWrites)
	r.check(v.Phantom == 0 && v.ValueWrites > 0, "nothing was written that was rolled back: %d of %d", v.Phantom, v.ValueWrites)
	r.check(v.Gaps == 0 && v.Unannounced == 0, "the ledgers are whole: %d gaps, %d commits that nobody announced", v.Gaps, v.Unannounced)
	r.check(v.Untrue == 0, "what was said to be rolled back did not happen, and what was confirmed did: %d", v.Untrue)
	r.check(v.Dead == 0 && v.Refused == 0, "no event is dead, no row refused: %d, %d", v.Dead, v.Refused)
	r.check(r.report.UnequalAfterPass == 0, "a pass brings the rest to what the rows say: %d", r.report.UnequalAfterPass)
	for tier := 1; tier <= writer.Tiers; tier++ {
		wanted := max(commitsMin, int(commitsEach*r.report.Seconds))
		r.check(v.Commits[tier] >= wanted, "tier %d made enough commits: %d of %d", tier, v.Commits[tier], wanted)
		r.check(v.RolledBack[tier] > 0, "transactions of tier %d were rolled back: %d", tier, v.RolledBack[tier])
	}
	r.check(v.Accepted > 0 && v.Forgotten > 0, "calls were answered: %d; endings were told to nobody: %d", v.Accepted, v.Forgotten)
	r.check(r.report.Redelivered > 0 || r.report.Faults[powerCut] == 0, "what was cut off from Redis' file was written again: %d times", r.report.Redelivered)
	groups := map[string]int{}
	long := r.o.For >= longRun
	for _, f := range faults {
		groups[f.group] += r.report.Faults[f.name]
		r.check(!long || r.report.Faults[f.name] > 0, "fault fired: %s, %d times", f.name, r.report.Faults[f.name])
	}
	for group, n := range groups {
		r.check(n > 0, "a fault of %s fired: %d", group, n)
	}
	r.check(!long || v.Explained > 0, "commits that were told to nobody left wrong keys: %d", v.Explained)
	r.check(!long || v.Kept > 0, "calls were kept while nobody could take them: %d", v.Kept)
	for _, c := range controls {
		r.check(r.report.Controls[c.name] > 0, "negative control found: %s", c.name)
	}
}

const (
	commitsMin  = 20
	commitsEach = 1.0 // a second
)

func (r *run) check(ok bool, format string, a ...any) {
	if text := fmt.Sprintf(format, a...); !ok {
		r.complain("not so: %s", text)
	} else {
		r.t.Log(text)
	}
}

// complain notes what is wrong.
func (r *run) complain(format string, a ...any) {
	r.wrong = append(r.wrong, fmt.Sprintf(format, a...))
	if len(r.wrong) <= complaintsMax {
		r.t.Errorf(format, a...)
	}
}

// Line is the report as one line of JSON.
func (r Report) Line() string {
	text, err := json.Marshal(r)
	if err != nil {
		return err.Error() // there is nothing in it that cannot be marshalled
	}
	return string(text)
}
