package reconcile

import (
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mapping"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// plan says which rows are damaged and how.
type plan struct{ stale, missing, wrongType, noTTL, formatOnly, swapped int }

// plant damages rows spread over the table, never the same one twice, and returns the counts that a pass must come to.
func (w *world) plant(rows int, p plan) fsm.PassCounts {
	w.t.Helper()
	total := p.stale + p.missing + p.wrongType + p.noTTL + p.formatOnly + 2*p.swapped
	i, step := 0, rows/total
	each := func(n int, damage func(key string)) {
		for range n {
			damage(w.key(i))
			i += step
		}
	}
	each(p.stale, w.spoil)
	each(p.missing, func(key string) { w.cache.do("DEL", key) })
	each(p.wrongType, func(key string) {
		w.cache.do("DEL", key)
		w.cache.do("RPUSH", key, "x")
		w.cache.do("PEXPIRE", key, "600000")
	})
	each(p.noTTL, func(key string) { w.cache.do("PERSIST", key) })
	each(p.formatOnly, func(key string) {
		w.cache.do("SET", key, strings.Replace(w.cache.do("GET", key), "{", "{ ", 1), "KEEPTTL")
	})
	for range p.swapped {
		a, b := w.key(i), w.key(i+step)
		w.swap(a, b)
		i += 2 * step
	}
	c := fsm.PassCounts{Rows: uint64(rows), Stale: uint64(p.stale + 2*p.swapped), Missing: uint64(p.missing), WrongType: uint64(p.wrongType),
		NoTTL: uint64(p.noTTL), FormatOnly: uint64(p.formatOnly)}
	if w.mapping.Spec().TTLMillis > 0 {
		c.Missing = 0
	}
	c.Equal = c.Rows - c.Differences() - c.FormatOnly
	return c
}

func (w *world) spoil(key string) {
	if w.mapping.Spec().Encoding == mapping.Hash {
		w.cache.do("HSET", key, "name", "somebody else")
		return
	}
	w.cache.do("SET", key, strings.Replace(w.cache.do("GET", key), "customer", "Customer", 1), "KEEPTTL")
}

func (w *world) swap(a, b string) {
	spare := a + ":swap"
	w.cache.do("RENAME", a, spare)
	w.cache.do("RENAME", b, a)
	w.cache.do("RENAME", spare, b)
}

func TestTask_FindsEveryClassAndInventsNone(t *testing.T) {
	t.Parallel()
	const rows = 20_000
	all := plan{stale: 40, missing: 30, wrongType: 20, swapped: 25}
	for name, test := range map[string]struct {
		change func(*mapping.Spec)
		plan   plan
	}{
		"json":          {nil, plan{all.stale, all.missing, all.wrongType, 0, 15, all.swapped}},
		"hash":          {func(s *mapping.Spec) { s.Encoding = mapping.Hash }, all},
		"hash tag":      {func(s *mapping.Spec) { s.Key = strings.Replace(s.Key, "order:{id}", "{{order:{id}}}:v", 1) }, all},
		"json with ttl": {func(s *mapping.Spec) { s.TTLMillis = 600_000 }, plan{all.stale, all.missing, all.wrongType, 10, 15, all.swapped}},
		"hash with ttl": {func(s *mapping.Spec) { s.Encoding, s.TTLMillis = mapping.Hash, 600_000 }, plan{all.stale, all.missing, all.wrongType, 10, 0, all.swapped}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rows, test.change)
			clean := w.run(fsm.PassDryRun, 0, 0)
			want := fsm.PassCounts{Rows: rows, Equal: rows}
			if clean.State != fsm.PassDone || clean.Counts != want || clean.Expected != clean.Actual || clean.Expected.Count != rows {
				t.Fatalf("clean table: %+v", clean)
			}
			want = w.plant(rows, test.plan)
			found := w.run(fsm.PassDryRun, 0, 50)
			if found.State != fsm.PassDone || found.Counts != want {
				t.Errorf("found %+v, planted %+v (%s)", found.Counts, want, found.Reason)
			}
			if found.Expected == found.Actual {
				t.Error("the sums do not show the differences")
			}
			absent := want.Rows - found.Expected.Count // rows that may be absent are in no sum
			if test.plan.missing > 0 && w.mapping.Spec().TTLMillis > 0 && absent != uint64(test.plan.missing) {
				t.Errorf("%d misses, planted %d", absent, test.plan.missing)
			}
			if n := len(found.Samples); n != min(fsm.SamplesMax, int(want.Differences())) {
				t.Errorf("%d samples of %d differences", n, want.Differences())
			}
			if w.log.pending() != 0 {
				t.Error("a dry run enqueued events")
			}
		})
	}
}
