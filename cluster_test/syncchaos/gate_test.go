package syncchaos

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/cluster_test/oracle"
	"github.com/quiescehq/quiesce/cluster_test/syncchaos/ledger"
	"github.com/quiescehq/quiesce/cluster_test/syncchaos/writer"
)

// Each thing that a run must have seen is missing once, each thing that must not be is there once: the run is invalid, and says why.
func TestRun_IsInvalidWithoutFaultsCommitsOrControls(t *testing.T) {
	t.Parallel()
	whole := worthy(t, longRun)
	if whole.conclude(); len(whole.wrong) != 0 {
		t.Fatalf("a run that has seen everything: %v", whole.wrong)
	}
	for missing, lose := range map[string]func(r *run){
		"every key is as its row":       func(r *run) { r.report.Unequal = 1 },
		"no accepted event is lost":     func(r *run) { r.report.Lost = 1 },
		"no token falls: 1":             func(r *run) { r.report.Backwards = 1 },
		"no token falls: 0 of 0":        func(r *run) { r.report.GuardWrites = 0 },
		"that was rolled back: 1":       func(r *run) { r.report.Phantom = 1 },
		"that was rolled back: 0 of 0":  func(r *run) { r.report.ValueWrites = 0 },
		"1 gaps":                        func(r *run) { r.report.Gaps = 1 },
		"1 commits that nobody":         func(r *run) { r.report.Unannounced = 1 },
		"did not happen":                func(r *run) { r.report.Untrue = 1 },
		"no event is dead":              func(r *run) { r.report.Dead = 1 },
		"no row refused":                func(r *run) { r.report.Refused = 1 },
		"a pass brings the rest":        func(r *run) { r.report.UnequalAfterPass = 1 },
		"tier 3 made enough commits":    func(r *run) { r.report.Commits[3] = 4 },
		"transactions of tier 2":        func(r *run) { r.report.RolledBack[2] = 0 },
		"calls were answered":           func(r *run) { r.report.Accepted = 0 },
		"told to nobody: 0":             func(r *run) { r.report.Forgotten = 0 },
		"written again":                 func(r *run) { r.report.Redelivered = 0 },
		"fault fired: MySQL: kill -9":   func(r *run) { delete(r.report.Faults, "MySQL: kill -9") },
		"calls were kept":               func(r *run) { r.report.Kept = 0 },
		"left wrong keys":               func(r *run) { r.report.Explained = 0 },
		"negative control found: a key": func(r *run) { delete(r.report.Controls, "a key that is gone") },
	} {
		r := worthy(t, longRun)
		lose(r)
		if r.conclude(); len(r.wrong) != 1 || !strings.Contains(r.wrong[0], missing) {
			t.Errorf("without %q: %v", missing, r.wrong)
		}
	}
	short := worthy(t, time.Second)
	for _, f := range faults {
		if f.group == ofRedis {
			delete(short.report.Faults, f.name)
		}
	}
	if short.conclude(); len(short.wrong) != 1 || !strings.Contains(short.wrong[0], "a fault of Redis fired") {
		t.Errorf("a short run without a fault of Redis: %v", short.wrong)
	}
}

// worthy is a run that has seen all it must.
func worthy(t *testing.T, d time.Duration) *run {
	r := &run{t: silent{t}, o: Options{For: d}, report: Report{Seconds: d.Seconds(), Redelivered: 1, Faults: map[string]int{}, Controls: map[string]int{}}}
	r.report.Verdict = Verdict{Keys: 1, Explained: 1, GuardWrites: 1, ValueWrites: 1, Accepted: 1, Forgotten: 1, Kept: 1}
	for tier := 1; tier <= writer.Tiers; tier++ {
		r.report.Commits[tier], r.report.RolledBack[tier] = 1_000, 1
	}
	for _, f := range faults {
		r.report.Faults[f.name] = 1
	}
	for _, c := range controls {
		r.report.Controls[c.name] = 1
	}
	return r
}

// silent is a test that is told of failures and does not fail: they are what is tested.
type silent struct{ testing.TB }

func (silent) Errorf(string, ...any) {}
func (silent) Log(...any)            {}

// A key that is wrong is explained by nothing but that the last commit of it, in tier 1, had no accepted call.
func TestVerdict_OnlyAnUncalledLastCommitExplains(t *testing.T) {
	t.Parallel()
	all := mappings()
	b := books{accepted: map[string]bool{"a-1.1": true, "a-1.3": true}, unknown: map[string]bool{"a-1.3": true}}
	for name, tc := range map[string]struct {
		tier                     int
		last                     string
		unequal, explained, lost int
	}{
		"a call was accepted":            {1, "a-1.1", 1, 0, 1},
		"none was":                       {1, "a-1.2", 0, 1, 0},
		"one was, before the commit":     {1, "a-1.3", 0, 1, 0},
		"nobody ever touched the key":    {1, "", 1, 0, 0},
		"tier 2 needs no call":           {2, "a-1.2", 1, 0, 1},
		"nor a commit that is known":     {2, "a-1.3", 1, 0, 1},
		"tier 3 needs none":              {3, "a-1.2", 1, 0, 1},
		"tier 4 needs none":              {4, "a-1.2", 1, 0, 1},
		"a key of tier 4 out of nowhere": {4, "", 1, 0, 0},
	} {
		var v Verdict
		v.difference(b, all[2*(tc.tier-1)], oracle.Difference{Key: "k", Want: "x"}, tc.last)
		if v.Unequal != tc.unequal || v.Explained != tc.explained || v.Lost != tc.lost {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

// What ledgers, journal and the append-only file say of one transaction must fit together.
func TestVerdict_WitnessesThatContradictEachOther(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.ledger")
	book, err := ledger.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []ledger.Line{
		{Op: ledger.Intent, Serial: "s.1", Tier: 1}, {Op: ledger.Committed, Serial: "s.1"}, {Op: ledger.Accepted, Serial: "s.1", Events: []ledger.Event{{Mapping: "m", PK: "1", Token: 7}}},
		{Op: ledger.Intent, Serial: "xs.2", Tier: 2, Doomed: true}, {Op: ledger.RolledBack, Serial: "xs.2"},
		{Op: ledger.Intent, Serial: "s.3", Tier: 3}, {Op: ledger.RolledBack, Serial: "s.3"},
		{Op: ledger.Intent, Serial: "s.4", Tier: 4}, {Op: ledger.Committed, Serial: "s.4"},
		{Op: ledger.Intent, Serial: "s.5", Tier: 1},
	} {
		if err := book.Write(l); err != nil {
			t.Fatal(err)
		}
	}
	if err := book.Close(); err != nil {
		t.Fatal(err)
	}
	var read Verdict
	b, err := read.read([]string{path})
	if err != nil || read.Gaps != 0 || len(b.events) != 1 {
		t.Fatalf("%+v, %+v, %v", read, b, err)
	}
	var good Verdict
	good.transactions(b, map[string]bool{"s.1": true, "s.4": true, "s.5": true})
	if good.Untrue != 0 || good.Unannounced != 0 || good.Uncalled != 1 || good.Commits[1] != 2 || good.RolledBack[3] != 1 {
		t.Errorf("witnesses that agree: %+v", good)
	}
	var bad Verdict
	bad.transactions(b, map[string]bool{"s.1": true, "xs.2": true, "s.3": true, "s.9": true})
	if bad.Untrue != 3 || bad.Unannounced != 1 { // s.4 was confirmed and is not there
		t.Errorf("witnesses that do not: %+v", bad)
	}
	of := func(serials ...string) life {
		l := life{values: map[string]int{}}
		for _, s := range serials {
			l.values[s]++
		}
		return l
	}
	var v Verdict
	if v.written(b, []life{of("s.1", "s.5")}); v.Phantom != 0 || v.ValueWrites != 2 {
		t.Errorf("values of commits: %+v", v)
	}
	if v.written(b, []life{of("xs.2", "s.3"), of("xs.2", "s.9")}); v.Phantom != 3 {
		t.Errorf("values of what was rolled back, in two lives, and one that nobody announced: %+v", v)
	}
}

// The values of both encodings are found in the file, and guards are none.
func TestReadLife_FindsWhoseValuesWereWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$16\r\n{\"serial\":\"s.1\"}\r\n*6\r\n$4\r\nHSET\r\n$1\r\nb\r\n$2\r\nid\r\n$1\r\n1\r\n$6\r\nserial\r\n$3\r\ns.2\r\n" +
		"*4\r\n$4\r\nHSET\r\n$6\r\nqg:{a}\r\n$1\r\nt\r\n$1\r\n5\r\n*4\r\n$4\r\nHSET\r\n$6\r\nqg:{a}\r\n$1\r\nt\r\n$1\r\n4\r\n*3\r\n$3\r\nSET\r\n$1\r\nc\r\n$3\r\nodd\r\n"
	if err := os.WriteFile(filepath.Join(dir, "appendonly.aof.1.incr.aof"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := readLife(dir)
	if err != nil || len(l.values) != 3 || l.values["s.1"] != 1 || l.values["s.2"] != 1 || l.values["odd"] != 1 || l.order.Writes != 2 || len(l.order.Backwards) != 1 {
		t.Errorf("%+v, %v", l, err)
	}
}
