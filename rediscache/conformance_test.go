package rediscache

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quiescehq/quiesce/cluster_test/services"
	"github.com/quiescehq/quiesce/mapping"
)

// world is a target of one kind, whose servers the test owns.
type world struct {
	kind      Kind
	config    Config
	primaries func() []*services.RedisServer
	at        func(key string) *services.RedisServer // who has a key
}

func standaloneWorld(t testing.TB) *world {
	s := services.OwnRedis(t)
	return &world{kind: Standalone, config: Config{Name: "cache", Addr: s.Addr},
		primaries: func() []*services.RedisServer { return []*services.RedisServer{s} },
		at:        func(string) *services.RedisServer { return s }}
}

func sentinelWorld(t testing.TB) (*world, *services.SentinelSet) {
	set := services.OwnSentinels(t)
	return &world{kind: Sentinel, config: Config{Name: "cache", Kind: Sentinel, Addrs: set.Addrs, MasterName: set.Name},
		primaries: func() []*services.RedisServer { return []*services.RedisServer{set.Primary} },
		at:        func(string) *services.RedisServer { return set.Primary }}, set
}

func clusterWorld(t testing.TB) (*world, *services.RedisCluster) {
	cluster := services.OwnCluster(t)
	return &world{kind: Cluster, config: Config{Name: "cache", Kind: Cluster, Addrs: cluster.Addrs[:1]},
		primaries: func() []*services.RedisServer { return cluster.Primaries },
		at:        func(key string) *services.RedisServer { return cluster.Primaries[cluster.Owner(key)] }}, cluster
}

// open takes the deadline out of a test that does not change the configuration: what it does between Begin and Apply may take its time.
func (w *world) open(t testing.TB, change func(*Config)) *Target {
	t.Helper()
	config := w.config
	if change == nil {
		patient(&config)
	} else {
		change(&config)
	}
	target, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := target.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return target
}

// keysOf are enough keys to live on every server.
func keysOf(t testing.TB, n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = keyOf(t, strconv.Itoa(i))
	}
	return keys
}

func each(keys []string, write func(key string) Guarded) []Guarded {
	writes := make([]Guarded, len(keys))
	for i, key := range keys {
		writes[i] = write(key)
	}
	return writes
}

func expectAll(t testing.TB, outcomes []Outcome, want Outcome) {
	t.Helper()
	for i, got := range outcomes {
		if got != want {
			t.Fatalf("outcome %d of %d is %v, want %v", i, len(outcomes), got, want)
		}
	}
}

func op(key string, token uint64, op mapping.Op, value string, fields ...mapping.Field) Guarded {
	return Guarded{Token: token, Write: mapping.Write{Key: key, Guard: guardOf(key), Op: op, Value: []byte(value), Fields: fields}}
}

func replacing(guarded Guarded) Guarded {
	guarded.Write.Replace = true
	return guarded
}

// conformance is what a target of any kind does alike.
var conformance = []struct {
	name string
	run  func(t *testing.T, w *world)
}{
	{"newer tokens win on every server and outcomes keep their order", conformTokens},
	{"each operation does what it says and nothing else", conformOperations},
	{"if-present forms advance the guard of an absent key", conformIfPresent},
	{"replace takes keys of another type", conformReplace},
	{"an invalidate refuses what began before it", conformInvalidate},
	{"a batch that was held past its deadline writes nothing", conformHeld},
	{"a server clock that was set back writes nothing", conformClockBack},
	{"scripts that are forgotten between begin and apply are loaded again", conformForgotten},
	{"a read gives back what was written, in order", conformRead},
	{"guards tell what happened to a key", conformGuards},
	{"a sweep finds and removes every key of its pattern", conformSweep},
	{"a pass by cursor alone finds every key", conformScan},
	{"the identity names one life of all servers", conformIdentity},
	{"guards of keys with braces are beside their keys", conformBraces},
	{"a key that begin was not told of is refused where that matters", conformUntold},
	{"workers side by side never leave a stale value", conformWorkers},
}

func TestTarget_EveryKindConforms(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(t *testing.T) *world{
		"standalone": func(t *testing.T) *world { return standaloneWorld(t) },
		"sentinel":   func(t *testing.T) *world { w, _ := sentinelWorld(t); return w },
		"cluster":    func(t *testing.T) *world { w, _ := clusterWorld(t); return w },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t)
			for _, promise := range conformance {
				t.Run(promise.name, func(t *testing.T) { promise.run(t, w) })
			}
		})
	}
}

func conformTokens(t *testing.T, w *world) {
	target := w.open(t, nil)
	keys := keysOf(t, 300)
	batch := beginFor(t, target, keys)
	writes := each(keys, func(key string) Guarded { return set(key, 10, key) })
	expectAll(t, apply(t, batch, writes...), OutcomeApplied)
	for i := range writes {
		writes[i] = set(keys[i], []uint64{9, 10, 11}[i%3], "new "+keys[i])
	}
	for i, got := range apply(t, batch, writes...) {
		want, value := OutcomeSuperseded, keys[i]
		if i%3 == 2 {
			want, value = OutcomeApplied, "new "+keys[i]
		}
		if got != want {
			t.Fatalf("key %d: %v, want %v", i, got, want)
		}
		if i%10 == 2 && w.at(keys[i]).Do("GET", keys[i]) != value {
			t.Fatalf("key %d is not %q", i, value)
		}
	}
}

func beginFor(t testing.TB, target *Target, keys []string) *Batch {
	t.Helper()
	batch, err := target.Begin(t.Context(), keys)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(batch.Close)
	return batch
}

func (w *world) fields(t testing.TB, key string) map[string]string {
	t.Helper()
	fields, err := w.at(key).Client.HGetAll(context.Background(), key).Result()
	if err != nil {
		t.Fatal(err)
	}
	return fields
}

func (w *world) exists(key string) bool { return w.at(key).Do("EXISTS", key) == int64(1) }

func conformOperations(t *testing.T, w *world) {
	target := w.open(t, nil)
	keys := keysOf(t, 6)
	batch := begin(t, target)
	w.at(keys[1]).Do("HSET", keys[1], "foreign", "stays", "gone", "1")
	w.at(keys[2]).Do("SET", keys[2], "v")
	w.at(keys[3]).Do("HSET", keys[3], "foreign", "stays", "a", "1", "b", "2")
	w.at(keys[4]).Do("HSET", keys[4], "a", "1")
	w.at(keys[5]).Do("SET", keys[5], "a string")
	expectOutcome(t, apply(t, batch,
		withTTL(set(keys[0], 1, ""), time.Minute),
		hash(keys[1], 1, text("a", "1"), null("gone")),
		del(keys[2], 1),
		op(keys[3], 1, mapping.OpDelFields, "", text("a", ""), text("b", ""), text("absent", "")),
		op(keys[4], 1, mapping.OpDelFields, "", text("a", "")),
		op(keys[5], 1, mapping.OpDelFields, "", text("a", "")),
	), OutcomeApplied, OutcomeApplied, OutcomeApplied, OutcomeApplied, OutcomeApplied, OutcomeWrongType)
	if w.at(keys[0]).Do("GET", keys[0]) != "" || w.at(keys[0]).Do("PTTL", keys[0]).(int64) <= 0 {
		t.Error("set: no empty value with a TTL")
	}
	if got := w.fields(t, keys[1]); !maps.Equal(got, map[string]string{"foreign": "stays", "a": "1"}) {
		t.Errorf("hash: %v", got)
	}
	if w.exists(keys[2]) || w.exists(keys[4]) {
		t.Error("a key is left")
	}
	if got := w.fields(t, keys[3]); !maps.Equal(got, map[string]string{"foreign": "stays"}) {
		t.Errorf("removed fields: %v", got)
	}
	if w.at(keys[5]).Do("GET", keys[5]) != "a string" || w.exists(guardOf(keys[5])) {
		t.Error("a refused write left traces")
	}
}

func conformIfPresent(t *testing.T, w *world) {
	target := w.open(t, nil)
	keys := keysOf(t, 4)
	w.at(keys[2]).Do("SET", keys[2], "old")
	w.at(keys[3]).Do("HSET", keys[3], "a", "old", "foreign", "stays")
	for _, key := range keys {
		w.at(key).Do("HSET", guardOf(key), "l", "reader", "x", "1")
	}
	writes := []Guarded{op(keys[0], 5, mapping.OpSetIfPresent, "v"), op(keys[1], 5, mapping.OpHashIfPresent, "", text("a", "1")),
		op(keys[2], 5, mapping.OpSetIfPresent, "new"), op(keys[3], 5, mapping.OpHashIfPresent, "", text("a", "new"))}
	batch := beginFor(t, target, keys)
	expectAll(t, apply(t, batch, writes...), OutcomeApplied)
	if w.exists(keys[0]) || w.exists(keys[1]) {
		t.Error("an absent key was made")
	}
	if got := w.at(keys[2]).Do("GET", keys[2]); got != "new" {
		t.Errorf("the present string is %v", got)
	}
	if got := w.fields(t, keys[3]); !maps.Equal(got, map[string]string{"a": "new", "foreign": "stays"}) {
		t.Errorf("the present hash is %v", got)
	}
	for _, key := range keys {
		if guard := w.fields(t, guardOf(key)); guard["t"] != "5" || guard["l"] != "" || guard["x"] != "" {
			t.Errorf("guard of %s: %v", key, guard)
		}
	}
	expectAll(t, apply(t, batch, each(keys, func(key string) Guarded { return set(key, 4, "older") })...), OutcomeSuperseded)
}

func conformReplace(t *testing.T, w *world) {
	target := w.open(t, nil)
	keys := keysOf(t, 5)
	forms := func(token uint64) []Guarded {
		return []Guarded{set(keys[0], token, "v"), op(keys[1], token, mapping.OpSetIfPresent, "v"), withTTL(hash(keys[2], token, text("a", "1")), time.Minute),
			op(keys[3], token, mapping.OpHashIfPresent, "", text("a", "1")), op(keys[4], token, mapping.OpDelFields, "", text("a", ""))}
	}
	for _, key := range keys {
		w.at(key).Do("RPUSH", key, "x")
	}
	batch := beginFor(t, target, keys)
	expectAll(t, apply(t, batch, forms(1)...), OutcomeWrongType)
	writes := forms(1)
	for i := range writes {
		writes[i] = replacing(writes[i])
	}
	expectAll(t, apply(t, batch, writes...), OutcomeApplied)
	for i, want := range []string{"string", "string", "hash", "hash", "none"} {
		if got := w.at(keys[i]).Do("TYPE", keys[i]); got != want {
			t.Errorf("key %d is a %v, want %s", i, got, want)
		}
	}
	if got := w.fields(t, keys[2]); !maps.Equal(got, map[string]string{"a": "1"}) || w.at(keys[2]).Do("PTTL", keys[2]).(int64) <= 0 {
		t.Errorf("the replaced key holds %v", got)
	}
}

func conformInvalidate(t *testing.T, w *world) {
	target := w.open(t, nil)
	keys := keysOf(t, 200)
	early := beginFor(t, target, keys)
	expectAll(t, apply(t, early, each(keys, func(key string) Guarded { return set(key, 5, "v") })...), OutcomeApplied)
	pairs := make([]KeyPair, len(keys))
	for i, key := range keys {
		pairs[i] = KeyPair{Key: key, Guard: guardOf(key)}
	}
	if err := beginFor(t, target, keys).Invalidate(t.Context(), pairs); err != nil {
		t.Fatal(err)
	}
	expectAll(t, apply(t, early, each(keys, func(key string) Guarded { return set(key, 9, "stale") })...), OutcomeBeganBeforeInvalidate)
	for _, key := range keys {
		if w.exists(key) {
			t.Fatalf("%s is left", key)
		}
	}
	services.Eventually(t, "a later begin may write", func() bool {
		batch := beginFor(t, target, keys)
		defer batch.Close()
		outcomes := apply(t, batch, each(keys, func(key string) Guarded { return set(key, 9, "fresh") })...)
		return !slices.Contains(outcomes, OutcomeBeganBeforeInvalidate)
	})
}

func conformHeld(t *testing.T, w *world) {
	target := w.open(t, func(c *Config) { c.Deadline, c.GuardTTL = 20*time.Millisecond, time.Second })
	keys := keysOf(t, 20)
	batch := beginFor(t, target, keys)
	began := time.Now()
	services.Eventually(t, "the deadline has passed", func() bool { return time.Since(began) > 40*time.Millisecond })
	expectAll(t, apply(t, batch, each(keys, func(key string) Guarded { return set(key, 1, "late") })...), OutcomeTooLate)
	for _, key := range keys {
		if w.exists(key) || w.exists(guardOf(key)) {
			t.Fatal("a late write left traces")
		}
	}
}

func conformClockBack(t *testing.T, w *world) {
	target := w.open(t, nil)
	keys := keysOf(t, 20)
	batch := beginFor(t, target, keys)
	for _, p := range batch.parts {
		if p != nil {
			p.began = p.began.Add(-time.Second) // as if the server's clock had stood still for a second of ours
		}
	}
	expectAll(t, apply(t, batch, each(keys, func(key string) Guarded { return set(key, 1, "v") })...), OutcomeTooLate)
}

func conformForgotten(t *testing.T, w *world) {
	target := w.open(t, nil)
	keys := keysOf(t, 300)
	batch := beginFor(t, target, keys)
	for token := range uint64(2) {
		for _, s := range w.primaries() {
			s.Do("SCRIPT", "FLUSH")
		}
		expectAll(t, apply(t, batch, each(keys, func(key string) Guarded { return set(key, token+1, "v") })...), OutcomeApplied)
	}
}

func conformRead(t *testing.T, w *world) {
	target := w.open(t, nil)
	keys := keysOf(t, 300)
	batch := beginFor(t, target, keys)
	apply(t, batch, each(keys, func(key string) Guarded { return withTTL(set(key, 1, key), time.Minute) })...)
	requests := make([]KeyRequest, len(keys))
	for i, key := range keys {
		requests[i] = KeyRequest{Key: key, Type: mapping.TypeString}
	}
	requests[7].Type = mapping.TypeHash
	actuals, err := target.Read(t.Context(), requests)
	if err != nil {
		t.Fatal(err)
	}
	for i, actual := range actuals {
		if i == 7 && actual.Type == mapping.TypeString && actual.Value == nil {
			continue
		}
		if string(actual.Value) != keys[i] || actual.TTLMillis <= 0 {
			t.Fatalf("key %d is %+v", i, actual)
		}
	}
}

func conformGuards(t *testing.T, w *world) {
	target := w.open(t, nil)
	keys := keysOf(t, 4)
	batch := beginFor(t, target, keys)
	apply(t, batch, set(keys[0], 7, "v"))
	if err := batch.Invalidate(t.Context(), pair(keys[1])); err != nil {
		t.Fatal(err)
	}
	w.at(keys[2]).Do("SET", guardOf(keys[2]), "foreign")
	got, err := target.Guards(t.Context(), []string{guardOf(keys[0]), guardOf(keys[1]), guardOf(keys[2]), guardOf(keys[3])})
	if err != nil {
		t.Fatal(err)
	}
	ttl := target.config.GuardTTL.Milliseconds()
	if g := got[0]; !g.Present || g.Token != 7 || g.InvalidatedMillis != 0 || g.TTLMillis <= 0 || g.TTLMillis > ttl {
		t.Errorf("written: %+v", g)
	}
	if g := got[1]; !g.Present || g.Token != 0 || g.InvalidatedMillis < batch.Identity().Servers[0].ClockMillis-ttl || g.TTLMillis <= 0 {
		t.Errorf("invalidated: %+v", g)
	}
	if g := got[2]; !g.Present || !g.Foreign || g.TTLMillis != 0 {
		t.Errorf("foreign: %+v", g)
	}
	if got[3] != (GuardState{}) {
		t.Errorf("absent: %+v", got[3])
	}
}

func conformSweep(t *testing.T, w *world) {
	target := w.open(t, nil)
	keys := keysOf(t, 900)
	apply(t, beginFor(t, target, keys), each(keys, func(key string) Guarded { return set(key, 1, "v") })...)
	other := "other:" + keys[0]
	w.at(other).Do("SET", other, "v")
	pattern := globOf(keys[0]) + "*"
	sweep := beginSweep(t, target)
	if got := sweepAll(t, sweep, pattern); got != uint64(len(keys)) {
		t.Errorf("%d removed, want %d", got, len(keys))
	}
	for _, key := range keys {
		if w.exists(key) {
			t.Fatalf("%s is left", key)
		}
	}
	if !w.exists(other) {
		t.Error("a key that does not match is gone")
	}
}

// globOf is the pattern of all keys of the test that a key is of.
func globOf(key string) string { return key[:len(key)-1] }

func conformScan(t *testing.T, w *world) {
	target := w.open(t, nil)
	keys := keysOf(t, 900)
	apply(t, beginFor(t, target, keys), each(keys, func(key string) Guarded { return set(key, 1, "v") })...)
	found, life := map[string]bool{}, ""
	for cursor, first := uint64(0), true; first || cursor != 0; first = false {
		part, err := target.Scan(t.Context(), cursor, globOf(keys[0])+"*")
		if err != nil {
			t.Fatal(err)
		}
		if life != "" && part.Life != life {
			t.Fatal("another life in the middle of a pass")
		}
		life = part.Life
		for _, key := range part.Keys {
			found[key] = true
		}
		cursor = part.Cursor
	}
	if len(found) != len(keys) {
		t.Errorf("%d of %d found", len(found), len(keys))
	}
}

func conformIdentity(t *testing.T, w *world) {
	target := w.open(t, nil)
	first, err := target.Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second, err := w.open(t, nil).Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(first.Life) != 40 || first.Life != second.Life {
		t.Errorf("lives %q and %q", first.Life, second.Life)
	}
	if len(first.Servers) != len(w.primaries()) || first.Role != RolePrimary || first.Version == "" || first.MaxMemoryPolicy != "noeviction" || first.Loading {
		t.Errorf("%+v", first)
	}
	for _, s := range first.Servers {
		if replicas := map[Kind]int{Sentinel: 1, Cluster: 1}[w.kind]; len(s.Replicas) != replicas || s.RunID == "" || s.ReplID == "" || s.ClockMillis == 0 {
			t.Errorf("%+v", s)
		}
	}
	if whole := begin(t, target).Identity(); whole.Life != first.Life {
		t.Errorf("a batch on all servers is in life %q, want %q", whole.Life, first.Life)
	}
	if w.kind != Standalone && first.Uptime != 0 {
		t.Errorf("uptime %v: nobody knows since when these are the primaries", first.Uptime)
	}
}

func conformBraces(t *testing.T, w *world) {
	target := w.open(t, nil)
	var writes []Guarded
	for _, name := range []string{"{user:1}:profile", "{user:2}:profile", "x{tag}y{other}z", "plain", "a}b", "a{}b", "open{", "}{", "{}{tag}"} {
		key := keyOf(t, name)
		write := set(key, 1, key)
		write.Write.Guard = mapping.GuardKey("qg:", key)
		writes = append(writes, write)
	}
	expectAll(t, apply(t, begin(t, target), writes...), OutcomeApplied)
	for _, write := range writes {
		if w.at(write.Write.Key) != w.at(write.Write.Guard) || w.fields(t, write.Write.Guard)["t"] != "1" {
			t.Errorf("the guard %q of %q is elsewhere", write.Write.Guard, write.Write.Key)
		}
	}
	wrong := set(keyOf(t, "{a}k"), 1, "v")
	wrong.Write.Guard = "qg:{b}k"
	outcomes, err := begin(t, target).Apply(t.Context(), []Guarded{wrong})
	if refused := errors.Is(err, ErrInvalid); refused != (w.kind == Cluster) {
		t.Errorf("a guard in another slot: %v, %v", outcomes, err)
	}
}

func conformUntold(t *testing.T, w *world) {
	keys := keysOf(t, 40)
	batch := beginFor(t, w.open(t, nil), keys[:1])
	var here, elsewhere string
	for _, key := range keys[1:] {
		if w.at(key) == w.at(keys[0]) {
			here = key
		} else {
			elsewhere = key
		}
	}
	if w.kind == Cluster {
		outcomes, err := batch.Apply(t.Context(), []Guarded{set(here, 1, "v"), set(elsewhere, 1, "v")})
		if !errors.Is(err, ErrInvalid) || errors.Is(err, ErrBatchOver) {
			t.Fatal(err)
		}
		expectAll(t, outcomes, OutcomeUnknown)
		if identity := batch.Identity(); len(identity.Servers) != 1 || identity.Life != "" {
			t.Errorf("a batch on one of three servers: %+v", identity)
		}
	}
	expectOutcome(t, apply(t, batch, set(here, 1, "v")), OutcomeApplied)
}

// The protocol as a whole, with a map for the database; see TestApply_ConcurrentWorkersNeverLeaveAStaleValue.
func conformWorkers(t *testing.T, w *world) {
	target := w.open(t, nil)
	const keys, workers, rounds = 6, 4, 40
	names := keysOf(t, keys)
	var mu sync.Mutex
	var rows [keys]uint64
	var token uint64
	var group errgroup.Group
	for worker := range workers {
		group.Go(func() error {
			random := rand.New(rand.NewPCG(uint64(worker), 1))
			for range rounds {
				row := random.IntN(keys)
				mu.Lock()
				rows[row]++
				token++
				mine := token
				mu.Unlock()
				if err := deliver(t.Context(), target, names[row], mine, random.IntN(5) == 0, func() string {
					mu.Lock()
					defer mu.Unlock()
					return strconv.FormatUint(rows[row], 10)
				}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	for row, name := range names {
		if !w.exists(name) {
			continue // an invalidate was the last to come
		}
		if got, want := w.at(name).Do("GET", name), strconv.FormatUint(rows[row], 10); got != want {
			t.Errorf("row %d: cache %s, database %s", row, got, want)
		}
	}
}
