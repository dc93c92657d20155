package reconcile

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/cluster_test/services"
	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/rediscache"
)

// owns is a mapping that owns its prefix; change may say more.
func owns(change func(*mapping.Spec)) func(*mapping.Spec) {
	return func(s *mapping.Spec) {
		s.OwnsPrefix = true
		if change != nil {
			change(s)
		}
	}
}

// newKeyWorld has a Redis of its own: other tests' keys would only make the scans long, and some tests empty it.
func newKeyWorld(t testing.TB, rows int, change func(*mapping.Spec)) (*world, *services.RedisServer) {
	t.Helper()
	place := services.Require(t)
	own := services.OwnRedis(t)
	place.RedisAddr = own.Addr
	w := newWorldAt(t, place, rows, owns(change))
	w.config.ThreadsRunningMax, w.config.TargetLatencyMax = 100_000, time.Minute // the load of other tests is none of ours
	w.config.PartKeys = 700                                                      // several scans, several parts
	return w, own
}

func (w *world) startKeys(mode fsm.PassMode, confirmMs uint64) uint64 {
	w.t.Helper()
	return w.log.must(w.t, fsm.StartPass{Mapping: "orders", PassOptions: fsm.PassOptions{Mode: mode, Cap: unlimited, ConfirmMs: confirmMs, Extras: true}}).Pass.ID
}

func (w *world) runKeys(mode fsm.PassMode, confirmMs uint64) fsm.Pass {
	w.t.Helper()
	defer w.lead(w.task(nil))()
	return w.ended(w.startKeys(mode, confirmMs))
}

// stray is the key of a row that never was.
func (w *world) stray(i int) string { return w.mapping.Key([]string{strconv.Itoa(id(i) + 1)}) }

// plantKeys makes n keys without a row, of the mapping's form and with plausible values.
func (w *world) plantKeys(n int) (keys []string) {
	w.t.Helper()
	args := []string{"MSET"}
	for i := range n {
		keys = append(keys, w.stray(i))
		args = append(args, w.stray(i), `{"id":1,"name":"gone","total":1.00,"note":null}`)
	}
	w.cache.do(args...)
	return keys
}

func (w *world) exists(keys ...string) int {
	w.t.Helper()
	n, err := strconv.Atoi(w.cache.do(append([]string{"EXISTS"}, keys...)...))
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// alien are keys that are not the mapping's: those below its prefix first, then others. do runs a command where the key lives.
func alien(prefix string, do func(key string, args ...string)) (below, beside []string) {
	below = []string{"order:007", "order:7 ", "order:", "order:-0", "order:+5", "order:5x", "order:99999999999999999999", "order:1:lock", "order:{2}", "order:0x10", "order:٣", "order:5.0"}
	for i, name := range below {
		below[i] = prefix + name
		do(below[i], "SET", below[i], "not ours "+name)
	}
	for _, kind := range [][]string{{"RPUSH", "x"}, {"HSET", "f", "x"}, {"SADD", "x"}, {"ZADD", "1", "x"}} {
		key := prefix + "order:" + strconv.Itoa(id(900_000+len(below))+1)
		below = append(below, key)
		do(key, append([]string{kind[0], key}, kind[1:]...)...)
	}
	beside = []string{prefix + "orders:5", prefix + "Order:5", prefix + "order5", "qg:{" + prefix + "order:3}", "other:order:5"}
	for _, key := range beside {
		do(key, "SET", key, "elsewhere")
	}
	return below, beside
}

func TestKeys_FindsEveryKeyWithoutARowAndTouchesNoOther(t *testing.T) {
	t.Parallel()
	const rows, planted = 3_000, 120
	w, _ := newKeyWorld(t, rows, nil)
	extras := w.plantKeys(planted)
	prefix := strings.TrimSuffix(w.mapping.Prefixes()[0], "order:")
	below, beside := alien(prefix, func(_ string, args ...string) { w.cache.do(args...) })
	aliens := slices.Concat(below, beside)
	dump := func() (all []string) {
		for _, key := range aliens {
			all = append(all, w.cache.do("DUMP", key))
		}
		return all
	}
	before, size := dump(), w.cache.do("DBSIZE")
	p := w.runKeys(fsm.PassDryRun, 20)
	want := fsm.KeyCounts{Matched: rows + planted + uint64(len(below)), Foreign: uint64(len(below)), Extra: planted, Looked: p.Keys.Looked}
	if p.State != fsm.PassDone || p.Keys != want || p.Counts.Equal != rows || p.Keys.Looked < want.Matched {
		t.Fatalf("%s %q: %+v, want %+v", p.State, p.Reason, p.Keys, want)
	}
	for _, d := range p.Samples {
		if d.Class != "extra" || !slices.Contains(extras, d.Key) || d.Expected != "" || !strings.Contains(d.Actual, "gone") {
			t.Errorf("sample %+v", d)
		}
	}
	if len(p.Samples) != fsm.SamplesMax || w.log.pending() != 0 || w.cache.do("DBSIZE") != size {
		t.Errorf("%d samples, %d events, %s keys of %s: a dry run reports", len(p.Samples), w.log.pending(), w.cache.do("DBSIZE"), size)
	}

	removing := w.startKeys(fsm.PassRewrite, 20)
	resign := w.lead(w.task(nil))
	w.until(removing, "held", func(p fsm.Pass) bool { return p.State == fsm.PassHeld })
	if w.log.pending() != 0 {
		t.Error("events before the approval")
	}
	w.log.must(t, fsm.ApprovePass{ID: removing})
	p = w.until(removing, "over", func(p fsm.Pass) bool { return p.State == fsm.PassDone })
	resign()
	if p.Keys.Extra != planted || p.Keys.Removed != planted || w.log.pending() != planted {
		t.Errorf("%+v, %d events", p.Keys, w.log.pending())
	}
	w.deliverAll()
	if n := w.exists(extras...); n != 0 {
		t.Errorf("%d extra keys are left", n)
	}
	if !slices.Equal(dump(), before) {
		t.Error("keys that are not the mapping's have changed")
	}
	clean := w.runKeys(fsm.PassRewrite, 20)
	if clean.State != fsm.PassDone || clean.Keys.Extra != 0 || clean.Keys.Hot != 0 || clean.Counts.Equal != rows {
		t.Errorf("after the removal: %s %+v %+v", clean.State, clean.Counts, clean.Keys)
	}
}

func TestKeys_OfEveryPrimaryOfACluster(t *testing.T) {
	t.Parallel()
	const rows, planted = 600, 60
	cluster := services.OwnCluster(t)
	w := newWorld(t, 0, owns(nil))
	var err error
	if w.target, err = rediscache.Open(rediscache.Config{Name: "cache", Kind: rediscache.Cluster, Addrs: cluster.Addrs}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.target.Close() })
	w.config.ThreadsRunningMax, w.config.TargetLatencyMax = 100_000, time.Minute
	w.insert(rows)
	w.fill()
	do := func(key string, args ...string) {
		words := make([]any, len(args))
		for i, a := range args {
			words[i] = a
		}
		cluster.Primaries[cluster.Owner(key)].Do(words...)
	}
	owners := map[int]bool{}
	for i := range planted {
		owners[cluster.Owner(w.stray(i))] = true
		do(w.stray(i), "SET", w.stray(i), "{}")
	}
	below, _ := alien(strings.TrimSuffix(w.mapping.Prefixes()[0], "order:"), do)
	p := w.runKeys(fsm.PassDryRun, 20)
	want := fsm.KeyCounts{Matched: rows + planted + uint64(len(below)), Foreign: uint64(len(below)), Extra: planted, Looked: p.Keys.Looked}
	if p.State != fsm.PassDone || p.Keys != want || len(owners) != 3 {
		t.Fatalf("%s %q: %+v, want %+v; keys on %d primaries", p.State, p.Reason, p.Keys, want, len(owners))
	}
}

// What moves between the two looks is hot, and nothing else is.
func TestKeys_WhatMovesIsNotExtra(t *testing.T) {
	t.Parallel()
	const rows, planted = 200, 12
	ref := func(w *world, i int) fsm.RowRef {
		return fsm.RowRef{Mapping: "orders", PK: mapping.EncodeKey([]string{strconv.Itoa(id(i) + 1)})}
	}
	refs := func(w *world) (all []fsm.RowRef) {
		for i := range planted {
			all = append(all, ref(w, i))
		}
		return all
	}
	insert := func(w *world) {
		for i := range planted {
			w.exec(fmt.Sprintf("INSERT INTO orders VALUES (%d,'new',1,NULL)", id(i)+1))
		}
	}
	for name, test := range map[string]struct {
		before func(w *world)           // the pass begins
		on     func(w *world, call int) // before a reading of rows
		relays *relays
		want   fsm.KeyCounts
	}{
		"row was inserted after the scan":       {on: func(w *world, call int) { doOnce(call == 2, func() { insert(w) }) }, want: fsm.KeyCounts{Hot: planted}},
		"row was inserted in the second look":   {on: func(w *world, call int) { doOnce(call == 3, func() { insert(w) }) }, want: fsm.KeyCounts{Hot: planted}},
		"row was deleted, its event is pending": {before: func(w *world) { w.log.must(w.t, fsm.EnqueueEvents{Events: refs(w)}) }, want: fsm.KeyCounts{Hot: planted}},
		"event came after the scan": {on: func(w *world, call int) {
			doOnce(call == 2, func() { w.log.must(w.t, fsm.EnqueueEvents{Events: refs(w)}) })
		}, want: fsm.KeyCounts{Hot: planted}},
		"event is announced":    {before: func(w *world) { w.log.must(w.t, fsm.PrepareEvents{Source: "shop", Events: refs(w), TTLMs: 60_000}) }, want: fsm.KeyCounts{Hot: planted}},
		"delivery is under way": {before: func(w *world) { w.memory.claim(ref(w, 3)) }, want: fsm.KeyCounts{Hot: 1, Extra: planted - 1}},
		"key went meanwhile":    {on: func(w *world, call int) { doOnce(call == 2, func() { w.cache.do("DEL", w.stray(0)) }) }, want: fsm.KeyCounts{Extra: planted - 1}},
		"key became one of another type": {on: func(w *world, call int) {
			doOnce(call == 2, func() { w.cache.do("DEL", w.stray(0)); w.cache.do("RPUSH", w.stray(0), "x") })
		}, want: fsm.KeyCounts{Extra: planted - 1, Foreign: 1}},
		"relay of the outbox table is paused":     {before: func(w *world) { w.log.must(w.t, fsm.PauseOutbox{Scope: fsm.PauseSource, Name: "shop"}) }, relays: &relays{}, want: fsm.KeyCounts{Hot: planted}},
		"relay does not get further":              {relays: &relays{}, want: fsm.KeyCounts{Hot: planted}},
		"relay has nothing to say":                {relays: &relays{drained: 100}, want: fsm.KeyCounts{Extra: planted}},
		"the outbox delivered it a long time ago": {before: func(w *world) { w.memory.claim(ref(w, 3)); w.memory.release(ref(w, 3), 1) }, want: fsm.KeyCounts{Extra: planted}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, _ := newKeyWorld(t, rows, nil)
			w.config.RelayWait = 100 * time.Millisecond
			w.plantKeys(planted)
			if test.before != nil {
				test.before(w)
			}
			source := &hookedSource{onRows: func(_ context.Context, call int) error {
				if test.on != nil {
					test.on(w, call)
				}
				return nil
			}}
			defer w.lead(w.task(func(p *Parts) {
				w.hookSource(source)(p)
				if test.relays != nil {
					p.Relays = test.relays
				}
			}))()
			p := w.ended(w.startKeys(fsm.PassDryRun, 20))
			test.want.Looked, test.want.Matched = p.Keys.Looked, rows+planted
			if p.State != fsm.PassDone || p.Keys != test.want {
				t.Errorf("%s %q: %+v, want %+v", p.State, p.Reason, p.Keys, test.want)
			}
		})
	}
}

func doOnce(now bool, f func()) {
	if now {
		f()
	}
}

// relays answers that everything up to a number is drained.
type relays struct{ drained uint64 }

func (r *relays) Mark(string) uint64                 { return 10 }
func (r *relays) Drained(_ string, mark uint64) bool { return r.drained > mark }

// Never more is removed than somebody approved of, and the pass asks again for the rest.
func TestKeys_RemovesAsManyAsWereApproved(t *testing.T) {
	t.Parallel()
	for _, mode := range []fsm.PassMode{fsm.PassRewrite, fsm.PassInvalidate} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			const rows, planted, some = 500, 40, 15
			w, _ := newKeyWorld(t, rows, nil)
			extras := w.plantKeys(planted)
			pass := w.startKeys(mode, 0)
			defer w.lead(w.task(nil))()
			held := func() fsm.Pass {
				return w.until(pass, "held", func(p fsm.Pass) bool { return p.State == fsm.PassHeld })
			}
			if p := held(); p.Hold != fsm.HoldExtras || p.Keys.Extra != planted || !strings.HasPrefix(p.Reason, "40 keys without a row") || w.log.pending() != 0 {
				t.Fatalf("%+v, %d events", p, w.log.pending())
			}
			w.log.must(t, fsm.ApprovePass{ID: pass, Limit: some})
			if p := held(); p.Keys.Extra != planted || p.Keys.Removed != some || w.log.pending() != some {
				t.Fatalf("%+v, %d events", p.Keys, w.log.pending())
			}
			for _, e := range w.log.due("orders", planted) {
				if e.Drop != (mode == fsm.PassInvalidate) || e.Pass != pass {
					t.Errorf("%+v", e)
				}
			}
			w.deliverAll()
			if n := w.exists(extras...); n != planted-some {
				t.Errorf("%d extra keys are left of %d", n, planted)
			}
			w.log.must(t, fsm.ApprovePass{ID: pass})
			p := w.until(pass, "over", func(p fsm.Pass) bool {
				return p.State == fsm.PassDone || p.State == fsm.PassHeld && p.Keys.Removed == planted-some
			})
			if p.State != fsm.PassDone || p.Keys.Removed != planted-some || p.Keys.Extra != planted-some {
				t.Errorf("%s %+v", p.State, p.Keys)
			}
		})
	}
}

func TestKeys_WhatStandsForNoRowIsNotExtra(t *testing.T) {
	t.Parallel()
	const rows = 60
	left := mapping.Literal("customer 000007")
	for name, test := range map[string]struct {
		change func(*mapping.Spec)
		plant  func(w *world)
		want   fsm.KeyCounts
		state  fsm.PassState
	}{
		"negative value": {func(s *mapping.Spec) { s.NegativeTTLMillis = 600_000 }, func(w *world) {
			w.cache.do("SET", w.stray(0), "null", "PX", "600000")
			w.cache.do("SET", w.stray(1), "null") // would stay for ever
			w.cache.do("SET", w.stray(2), `{"id":1}`, "PX", "600000")
		}, fsm.KeyCounts{Extra: 2}, fsm.PassDone},
		"foreign fields of a hash": {func(s *mapping.Spec) { s.Encoding = mapping.Hash }, func(w *world) {
			w.cache.do("HSET", w.stray(0), "foreign", "x")
			w.cache.do("HSET", w.stray(1), "foreign", "x", "name", "gone")
		}, fsm.KeyCounts{Extra: 1}, fsm.PassDone},
		"row that where leaves out": {func(s *mapping.Spec) { s.Where = []mapping.Condition{{Column: "name", Op: "!=", Value: &left}} }, func(w *world) {
			w.cache.do("SET", w.key(7), "left behind")
		}, fsm.KeyCounts{Extra: 1}, fsm.PassDone},
		"each of several keys": {func(s *mapping.Spec) {
			s.Keys, s.Key = []string{s.Key, strings.Replace(s.Key, "order:", "o*[x]?:", 1)}, ""
		}, func(w *world) {
			w.plantKeys(3)
			w.cache.do("SET", w.mapping.Keys([]string{strconv.Itoa(id(8) + 1)})[1], "gone")
		}, fsm.KeyCounts{Extra: 4}, fsm.PassDone},
		"prefix that is not owned": {func(s *mapping.Spec) { s.OwnsPrefix = false }, func(w *world) { w.plantKeys(3) }, fsm.KeyCounts{}, fsm.PassFailed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, _ := newKeyWorld(t, rows, test.change)
			test.plant(w)
			p := w.runKeys(fsm.PassDryRun, 0)
			if p.State != test.state || p.Keys.Extra != test.want.Extra || p.Keys.Foreign+p.Keys.Hot != 0 {
				t.Errorf("%s %q: %+v", p.State, p.Reason, p.Keys)
			}
			if p.State == fsm.PassFailed && !strings.HasPrefix(p.Reason, "not_comparable: ") {
				t.Error(p.Reason)
			}
		})
	}
}

// The target is another one in the middle of the phase: it begins anew, with right counts. Emptied, it has no keys left to be found.
func TestKeys_TargetThatIsAnotherOneInMidPass(t *testing.T) {
	t.Parallel()
	const rows, planted = 3_000, 50
	for name, test := range map[string]struct {
		change func(w *world, own *services.RedisServer)
		want   uint64
	}{
		"restarted": {func(w *world, own *services.RedisServer) {
			own.Kill()
			own.Start()
			w.cache = dialCache(w.t, own.Addr)
			w.fill()
			w.plantKeys(planted)
		}, planted},
		"restarted with fewer": {func(w *world, own *services.RedisServer) {
			own.Kill()
			own.Start()
			w.cache = dialCache(w.t, own.Addr)
			w.plantKeys(planted / 2)
		}, planted / 2},
		"emptied": {func(w *world, _ *services.RedisServer) { w.cache.do("FLUSHALL") }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, own := newKeyWorld(t, rows, nil)
			w.plantKeys(planted)
			g := newGate(3) // of the reads of rows by key: the phase is under way
			source := &hookedSource{onRows: func(ctx context.Context, call int) error { return g.pass(ctx, call) }}
			defer w.lead(w.task(w.hookSource(source)))()
			pass := w.startKeys(fsm.PassDryRun, 3_000)
			<-g.reached
			test.change(w, own)
			close(g.open)
			p := w.ended(pass)
			if p.State != fsm.PassDone || p.Keys.Extra != test.want || p.Keys.Hot+p.Keys.Foreign != 0 {
				t.Errorf("%s %q: %+v, want %d extra keys", p.State, p.Reason, p.Keys, test.want)
			}
			if want := rows + test.want; name == "restarted" && p.Keys.Matched != want {
				t.Errorf("%d keys matched, want %d", p.Keys.Matched, want)
			}
		})
	}
}

func TestKeys_CountsAreExactAcrossLeadersAndLostAnswers(t *testing.T) {
	t.Parallel()
	const rows, planted = 4_000, 400
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	w, _ := newKeyWorld(t, rows, nil)
	w.plantKeys(planted)
	pass := w.startKeys(fsm.PassRewrite, 10)
	lost := 0
	w.log.intercept = func(c fsm.Command) (apply, answer bool) {
		if _, keys := c.(fsm.CheckpointKeys); !keys {
			return true, true
		}
		apply, answer = random.IntN(4) > 0, random.IntN(4) > 0
		if !apply || !answer {
			lost++
		}
		return apply, answer
	}
	leaders, resumed := 0, 0
	round := func() fsm.Pass {
		for w.log.pass(pass).State == fsm.PassRunning {
			leaders++
			before := w.log.pass(pass).Scan
			if before.Cursor != 0 {
				resumed++
			}
			resign := w.lead(w.task(nil))
			steps := 2
			w.until(pass, "further", func(p fsm.Pass) bool {
				if p.Scan != before {
					before = p.Scan
					steps--
				}
				return steps < 0 || p.State != fsm.PassRunning
			})
			resign()
		}
		return w.log.pass(pass)
	}
	want := fsm.KeyCounts{Matched: rows + planted, Extra: planted}
	p := round()
	want.Looked = p.Keys.Looked
	if p.State != fsm.PassHeld || p.Keys != want {
		t.Fatalf("seed %d, %d leaders, %d lost: %s %q %+v, want %+v", seed, leaders, lost, p.State, p.Reason, p.Keys, want)
	}
	before := w.tokens()
	w.log.must(t, fsm.ApprovePass{ID: pass})
	p = round()
	if given := w.tokens() - before; p.State != fsm.PassDone || p.Keys.Removed != planted || p.Keys.Extra != planted || w.log.pending() != planted || given < planted {
		t.Errorf("seed %d: %s %q %+v, %d events, %d tokens", seed, p.State, p.Reason, p.Keys, w.log.pending(), given)
	}
	if resumed < 2 || lost == 0 {
		t.Errorf("seed %d: %d leaders, %d of them in mid-phase, %d answers lost: nothing was tried", seed, leaders, resumed, lost)
	}
}

// SCAN may give a key twice. Twice suspected it is counted once.
func TestKeys_KeyThatIsGivenTwiceCountsOnce(t *testing.T) {
	t.Parallel()
	w, _ := newKeyWorld(t, 10, nil)
	extras := w.plantKeys(4)
	p := &pass{config: w.config, log: w.log, acks: w.memory, logger: w.task(nil).Logger, progress: &progress{}, mapping: w.mapping, source: w.source, target: w.target,
		logged: w.log.pass(w.startKeys(fsm.PassDryRun, 0))}
	k, err := newKeyPhase(p)
	if err != nil {
		t.Fatal(err)
	}
	part := &keyPart{}
	for range 2 {
		if err := k.judgePart(t.Context(), part, append(slices.Clone(extras), extras...)); err != nil {
			t.Fatal(err)
		}
	}
	if len(part.open) != len(extras) {
		t.Errorf("%d suspects of %d keys", len(part.open), len(extras))
	}
}

func TestKeys_PatternsAreLiteral(t *testing.T) {
	t.Parallel()
	for literal, want := range map[string]string{"order:": "order:", "a*b?c[d]": `a\*b\?c\[d]`, `x\y`: `x\\y`} {
		if got := globEscape(literal); got != want {
			t.Errorf("%s: %s, want %s", literal, got, want)
		}
	}
	for want, texts := range map[string][]string{"a:": {"a:b:", "a:c:"}, "a": {"a", "ab"}, "": {"x", "y"}, "same": {"same"}} {
		if got := commonPrefix(texts); got != want {
			t.Errorf("%q: %q, want %q", texts, got, want)
		}
	}
}
