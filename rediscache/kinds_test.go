package rediscache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/quiescehq/quiesce/cluster_test/harness"
	"github.com/quiescehq/quiesce/cluster_test/services"
	"github.com/quiescehq/quiesce/mapping"
)

// patient takes the deadline out of a test that takes its time between Begin and Apply.
func patient(c *Config) { c.Deadline, c.GuardTTL = 5*time.Minute, 20*time.Minute }

// spread groups keys by the primary that has them.
func spread(cluster *services.RedisCluster, keys []string) map[int][]string {
	by := map[int][]string{}
	for _, key := range keys {
		at := cluster.Owner(key)
		by[at] = append(by[at], key)
	}
	return by
}

// applyAgain begins anew until every write is settled, as the outbox does.
func applyAgain(t *testing.T, target *Target, keys []string, writes []Guarded) {
	t.Helper()
	services.Eventually(t, "all is settled", func() bool {
		batch, err := target.Begin(t.Context(), keys)
		if err != nil {
			return false
		}
		defer batch.Close()
		outcomes, err := batch.Apply(t.Context(), writes)
		return err == nil && !slices.ContainsFunc(outcomes, func(o Outcome) bool { return !o.Settled() })
	})
}

func portOf(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }

func TestSlotOf_IsTheServersOwn(t *testing.T) {
	t.Parallel()
	server := services.OwnRedis(t, "--cluster-enabled", "yes", "--cluster-port", portOf(harness.FreeAddr(t)))
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	keys := []string{"", "a", "{", "}", "{}", "{}a", "a{}b", "{a}", "a{b}c", "a{b{c}d}", "{a}{b}", "}{a}", "a}b", "\x00\xff{\xfe}", "{a", "ключ"}
	for range 500 {
		key := make([]byte, random.IntN(12))
		for i := range key {
			key[i] = "ab{}:\xff"[random.IntN(6)]
		}
		keys = append(keys, string(key))
	}
	for _, key := range keys {
		if got, want := int64(slotOf(key)), server.Do("CLUSTER", "KEYSLOT", key); got != want {
			t.Errorf("slot of %q is %d, the server says %d", key, got, want)
		}
	}
}

func TestCluster_MapsThatMakeNoSenseAreRefused(t *testing.T) {
	t.Parallel()
	f := newFleet(Config{Kind: Cluster, Addrs: []string{"10.0.0.1:7000"}})
	t.Cleanup(func() { _ = f.close() })
	primary := []redis.ClusterNode{{Addr: ":7001"}, {Addr: "10.0.0.3:7003"}}
	for name, slots := range map[string][]redis.ClusterSlot{
		"nothing":       {},
		"no server":     {{Start: 0, End: 5}},
		"below":         {{Start: -1, End: 5, Nodes: primary}},
		"above":         {{Start: 0, End: slotCount, Nodes: primary}},
		"the other way": {{Start: 6, End: 5, Nodes: primary}},
	} {
		if l, err := f.layoutOf("10.0.0.1:7000", slots); err == nil {
			t.Errorf("%s: %+v", name, l)
		}
	}
	l, err := f.layoutOf("10.0.0.1:7000", []redis.ClusterSlot{{Start: 5, End: 5, Nodes: primary}})
	if err != nil || len(l.nodes) != 1 || l.nodes[0].addr != "10.0.0.1:7001" {
		t.Fatalf("a server that does not know its own host: %+v, %v", l, err)
	}
	if at, err := l.nodeOf(5); at != 0 || err != nil {
		t.Errorf("slot 5 is at %d, %v", at, err)
	}
	if _, err := l.nodeOf(6); !errors.Is(err, ErrSnooze) {
		t.Errorf("a slot that nobody has: %v", err)
	}
}

func TestCluster_SlotsThatNobodyServesSnoozeAndCostNoOthers(t *testing.T) {
	t.Parallel()
	s := services.OwnRedis(t, "--cluster-enabled", "yes", "--cluster-require-full-coverage", "no", "--cluster-port", portOf(harness.FreeAddr(t)))
	s.Do("CLUSTER", "ADDSLOTSRANGE", 0, slotCount/2-1)
	var served, orphans []string
	for _, key := range keysOf(t, 40) {
		if slotOf(key) < slotCount/2 {
			served = append(served, key)
		} else {
			orphans = append(orphans, key)
		}
	}
	services.Eventually(t, "the cluster serves", func() bool { return s.Client.Exists(t.Context(), served[0]).Err() == nil })
	target := (&world{config: Config{Name: "cache", Kind: Cluster, Addrs: []string{s.Addr}}}).open(t, nil)
	all := slices.Concat(orphans, served)
	writes := each(all, func(key string) Guarded { return set(key, 1, "v") })
	batch := beginFor(t, target, all)
	outcomes, err := batch.Apply(t.Context(), writes)
	expectOver(t, err, ErrSnooze)
	expectAll(t, outcomes[:len(orphans)], OutcomeUnknown)
	expectAll(t, outcomes[len(orphans):], OutcomeApplied)
	batch.Close()
	if _, err := target.Begin(t.Context(), orphans); !errors.Is(err, ErrSnooze) {
		t.Errorf("begin: %v", err)
	}
	if _, err := target.Read(t.Context(), []KeyRequest{{Key: orphans[0], Type: mapping.TypeString}}); !errors.Is(err, ErrSnooze) {
		t.Errorf("read: %v", err)
	}
	s.Do("CLUSTER", "ADDSLOTSRANGE", slotCount/2, slotCount-1)
	applyAgain(t, target, all, writes)
}

func TestCluster_SlotThatMovesBetweenBeginAndApplyEndsItsServersPartAlone(t *testing.T) {
	t.Parallel()
	w, cluster := clusterWorld(t)
	target := w.open(t, nil)
	keys := keysOf(t, 60)
	by := spread(cluster, keys)
	moved := by[0][0]
	apply(t, beginFor(t, target, keys), each(keys, func(key string) Guarded { return set(key, 5, "five") })...)
	before, err := target.Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	batch := beginFor(t, target, keys)
	cluster.Migrate(moved, 1)
	outcomes, err := batch.Apply(t.Context(), each(keys, func(key string) Guarded { return set(key, 6, "six") }))
	expectOver(t, err, ErrNotPrimary)
	for i, key := range keys {
		got, value := outcomes[i], cluster.Primaries[cluster.Owner(key)].Do("GET", key)
		switch {
		case key == moved && (got != OutcomeUnknown || value != "five"):
			t.Errorf("the moved key: %v, value %v: a redirect was followed", got, value)
		case key != moved && (got != OutcomeApplied || value != "six"):
			t.Errorf("%s: %v, value %v", key, got, value)
		}
	}
	for _, key := range []string{by[0][1], by[1][0]} {
		outcomes, err := batch.Apply(t.Context(), []Guarded{set(key, 7, "seven")})
		if over := errors.Is(err, ErrBatchOver); over != (key == by[0][1]) || outcomes[0].Settled() == over {
			t.Errorf("after the redirect, %s: %v, %v", key, outcomes, err)
		}
	}
	batch.Close()
	// The guard went along, and the next Begin knows the way.
	again := beginFor(t, target, keys)
	expectOutcome(t, apply(t, again, set(moved, 4, "four"), set(moved, 6, "six")), OutcomeSuperseded, OutcomeApplied)
	after, err := target.Identity(t.Context())
	if err != nil || after.Life == before.Life {
		t.Errorf("the slots moved and the life is %q as before (%v)", after.Life, err)
	}
}

func TestCluster_SlotUnderWayIsNotFollowed(t *testing.T) {
	t.Parallel()
	w, cluster := clusterWorld(t)
	target := w.open(t, nil)
	key := keyOf(t, "k")
	tag := "{" + key + "}"
	there, absent := tag+"there", tag+"absent"
	guarded := func(key string, token uint64) Guarded {
		write := set(key, token, "v")
		write.Write.Guard = "qg::" + key
		return write
	}
	expectOutcome(t, apply(t, beginFor(t, target, []string{there}), guarded(there, 1)), OutcomeApplied)
	cluster.BeginMigration(there, (cluster.Owner(there)+1)%3)
	expectOutcome(t, apply(t, beginFor(t, target, []string{there}), guarded(there, 2)), OutcomeApplied)
	// ASK: neither the key nor its guard is there; they may be at the other server by now.
	outcomes, err := beginFor(t, target, []string{absent}).Apply(t.Context(), []Guarded{guarded(absent, 1)})
	expectOver(t, err, ErrNotPrimary)
	expectOutcome(t, outcomes, OutcomeUnknown)
	// TRYAGAIN: the guard is there and the key is not.
	cluster.Primaries[cluster.Owner(there)].Do("DEL", there)
	outcomes, err = beginFor(t, target, []string{there}).Apply(t.Context(), []Guarded{guarded(there, 3)})
	expectOver(t, err, ErrSnooze)
	expectOutcome(t, outcomes, OutcomeUnknown)
}

func TestCluster_FailoverBetweenBeginAndApplyEndsItsServersPartAlone(t *testing.T) {
	t.Parallel()
	w, cluster := clusterWorld(t)
	target := w.open(t, nil)
	keys := keysOf(t, 40)
	by := spread(cluster, keys)
	apply(t, beginFor(t, target, keys), each(keys, func(key string) Guarded { return set(key, 1, "v") })...)
	before, err := target.Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	batch := beginFor(t, target, keys)
	cluster.Failover(0)
	writes := each(keys, func(key string) Guarded { return set(key, 2, "v2") })
	outcomes, err := batch.Apply(t.Context(), writes)
	expectOver(t, err, ErrNotPrimary)
	for i, key := range keys {
		want := OutcomeApplied
		if slices.Contains(by[0], key) {
			want = OutcomeUnknown
		}
		if outcomes[i] != want {
			t.Errorf("%s: %v, want %v", key, outcomes[i], want)
		}
	}
	applyAgain(t, target, keys, writes)
	after, err := target.Identity(t.Context())
	if err != nil || after.Life == before.Life {
		t.Errorf("another server took over and the life is %q as before (%v)", after.Life, err)
	}
}

func TestCluster_DeadServerCostsItsOwnKeysUntilItsReplicaTakesOver(t *testing.T) {
	t.Parallel()
	w, cluster := clusterWorld(t)
	target := w.open(t, func(c *Config) { patient(c); c.Addrs = cluster.Addrs })
	keys := keysOf(t, 40)
	by := spread(cluster, keys)
	apply(t, beginFor(t, target, keys), each(keys, func(key string) Guarded { return set(key, 1, "v") })...)
	batch := beginFor(t, target, keys)
	cluster.Primaries[1].Kill()
	for round, token := range []uint64{2, 3} { // of a batch that began before, and of one that begins now
		outcomes, err := batch.Apply(t.Context(), each(keys, func(key string) Guarded { return set(key, token, "v") }))
		expectOver(t, err, ErrUnreachable)
		for i, key := range keys {
			want := OutcomeApplied
			if slices.Contains(by[1], key) {
				want = OutcomeUnknown
			}
			if outcomes[i] != want {
				t.Errorf("round %d, %s: %v, want %v", round, key, outcomes[i], want)
			}
		}
		batch = beginFor(t, target, keys)
	}
	if _, err := target.Begin(t.Context(), by[1]); !errors.Is(err, ErrUnreachable) {
		t.Errorf("a Begin for keys of the dead server alone: %v", err)
	}
	if _, err := target.Read(t.Context(), []KeyRequest{{Key: by[1][0], Type: mapping.TypeString}, {Key: by[0][0], Type: mapping.TypeString}}); !errors.Is(err, ErrUnreachable) {
		t.Errorf("a read that lacks a server: %v", err)
	}
	if _, err := target.BeginSweep(t.Context()); !errors.Is(err, ErrUnreachable) {
		t.Errorf("a sweep that lacks a server: %v", err)
	}
	cluster.Failover(1)
	applyAgain(t, target, keys, each(keys, func(key string) Guarded { return set(key, 4, "v") }))
}

func TestCluster_SlotThatMovesDuringASweepEndsIt(t *testing.T) {
	t.Parallel()
	w, cluster := clusterWorld(t)
	target := w.open(t, nil)
	keys := keysOf(t, 30)
	apply(t, beginFor(t, target, keys), each(keys, func(key string) Guarded { return set(key, 1, "v") })...)
	sweep := beginSweep(t, target)
	at := slices.IndexFunc(cluster.Primaries, func(p *services.RedisServer) bool { return p.Addr == sweep.layout.nodes[2].addr })
	to := slices.IndexFunc(cluster.Primaries, func(p *services.RedisServer) bool { return p.Addr == sweep.layout.nodes[0].addr })
	moved := spread(cluster, keys)[at][0]
	part, err := sweep.Scan(t.Context(), globOf(keys[0])+"*", 0)
	for err == nil && part.Cursor>>cursorBits == 0 {
		part, err = sweep.Scan(t.Context(), globOf(keys[0])+"*", part.Cursor)
	}
	if err != nil {
		t.Fatal(err)
	}
	cluster.Migrate(moved, to) // from where the pass has not been to where it was
	for err == nil && part.Cursor != 0 {
		part, err = sweep.Scan(t.Context(), globOf(keys[0])+"*", part.Cursor)
	}
	if !errors.Is(err, ErrNotPrimary) {
		t.Fatalf("a pass that misses %q ended with %v", moved, err)
	}
	again := beginSweep(t, target)
	if again.Identity().Life == sweep.Identity().Life {
		t.Error("the cursor of the pass would be taken for one of this life")
	}
	if got := sweepAll(t, again, globOf(keys[0])+"*"); got != uint64(len(keys)) {
		t.Errorf("%d removed, want %d", got, len(keys))
	}
}

func TestSentinel_DeadPrimaryIsUnknownAndTheNextOneIsAsked(t *testing.T) {
	t.Parallel()
	w, watched := sentinelWorld(t)
	target := w.open(t, nil)
	key := keyOf(t, "k")
	expectOutcome(t, apply(t, begin(t, target), set(key, 1, "v")), OutcomeApplied)
	services.Eventually(t, "the replica has it", func() bool { return watched.Replica.Do("EXISTS", key) == int64(1) })
	before, err := target.Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	batch := begin(t, target)
	watched.Primary.Kill()
	outcomes, err := batch.Apply(t.Context(), []Guarded{set(key, 2, "v2")})
	expectOver(t, err, ErrUnreachable)
	expectOutcome(t, outcomes, OutcomeUnknown)
	if _, err := target.Begin(t.Context(), nil); !errors.Is(err, ErrUnreachable) {
		t.Fatalf("there is no primary: %v", err)
	}
	watched.Failover()
	applyAgain(t, target, []string{key}, []Guarded{set(key, 2, "v2")})
	if got := watched.Primary.Do("GET", key); got != "v2" {
		t.Errorf("the new primary has %v", got)
	}
	after, err := target.Identity(t.Context())
	if err != nil || after.Life == before.Life || after.Servers[0].Addr != watched.Primary.Addr {
		t.Errorf("%+v, %v, before %q", after, err, before.Life)
	}
}

// A primary that the sentinels have given up goes on to take writes for some seconds. What it then takes is lost; a confirmation shows it.
func TestSentinel_GivenUpPrimaryConfirmsNothing(t *testing.T) {
	t.Parallel()
	w, watched := sentinelWorld(t)
	target := w.open(t, func(c *Config) { patient(c); c.Confirm = Confirm{Replicas: 1, Timeout: time.Second} })
	key := keyOf(t, "k")
	expectOutcome(t, apply(t, begin(t, w.open(t, confirming(1, 10*time.Second))), set(key, 1, "v")), OutcomeApplied)
	batch := begin(t, target)
	old := watched.Primary
	watched.Failover()
	outcomes, err := batch.Apply(t.Context(), []Guarded{set(key, 2, "v2")})
	if !errors.Is(err, ErrBatchOver) || outcomes[0].Settled() {
		t.Fatalf("%v of a primary without a replica, %v", outcomes, err)
	}
	if old.Do("ROLE").([]any)[0] == RolePrimary && !errors.Is(err, ErrUnconfirmed) {
		t.Errorf("the old primary lives on, and the error is %v", err)
	}
	services.Eventually(t, "a Begin leads to the new primary", func() bool {
		batch, err := target.Begin(t.Context(), nil)
		if err != nil {
			return false
		}
		defer batch.Close()
		return batch.Identity().Servers[0].Addr == watched.Primary.Addr
	})
}

// A primary that was cut off from its sentinels says no word of it. Who never asked again would write to it for ever.
func TestSentinel_ReplacedPrimaryIsLeftWithoutAnError(t *testing.T) {
	t.Parallel()
	w, watched := sentinelWorld(t)
	target := w.open(t, nil)
	begin(t, target).Close()
	old := watched.Primary
	watched.Failover()
	known := target.fleet.current.Load()
	if known.nodes[0].addr != old.Addr {
		t.Fatal("the test shows nothing")
	}
	known.asked = time.Now().Add(-sentinelAge)
	if batch := begin(t, target); batch.Identity().Servers[0].Addr != watched.Primary.Addr {
		t.Errorf("the batch is on the old primary")
	}
}

// Any majority holds one that knows the last failover, if a majority does.
func TestSentinel_LatestFailoverCounts(t *testing.T) {
	t.Parallel()
	sentinel := func(port, epoch string) string {
		return scripted(t, map[string]string{
			"get-master-addr-by-name": fmt.Sprintf("*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%s\r\n", len(port), port),
			"master":                  fmt.Sprintf("*2\r\n$12\r\nconfig-epoch\r\n$%d\r\n%s\r\n", len(epoch), epoch),
		})
	}
	for range 5 {
		f := newFleet(Config{Kind: Sentinel, MasterName: "shop", Addrs: []string{sentinel("7001", "9"), sentinel("7002", "10"), sentinel("7002", "10")}}.withDefaults())
		l, err := f.layout(t.Context())
		if err != nil || l.nodes[0].addr != "127.0.0.1:7002" {
			t.Errorf("%+v, %v", l, err)
		}
		if err := f.close(); err != nil {
			t.Error(err)
		}
	}
}

// Sentinels that say nothing wrong yet: the server itself is asked.
func TestSentinel_ServerThatIsNoPrimaryIsNotBelieved(t *testing.T) {
	t.Parallel()
	w, watched := sentinelWorld(t)
	target := w.open(t, nil)
	key := keyOf(t, "k")
	batch := begin(t, target)
	expectOutcome(t, apply(t, batch, set(key, 1, "v")), OutcomeApplied)
	watched.Primary.Do("REPLICAOF", "127.0.0.1", "1")
	_, err := batch.Apply(t.Context(), []Guarded{set(key, 2, "v")})
	expectOver(t, err, ErrNotPrimary)
	if _, err := target.Begin(t.Context(), nil); !errors.Is(err, ErrNotPrimary) {
		t.Errorf("begin: %v", err)
	}
	if actual, err := target.Read(t.Context(), []KeyRequest{{Key: key, Type: mapping.TypeString}}); !errors.Is(err, ErrNotPrimary) {
		t.Errorf("a replica's answer was taken: %+v, %v", actual, err)
	}
	if _, err := target.Guards(t.Context(), []string{guardOf(key)}); !errors.Is(err, ErrNotPrimary) {
		t.Errorf("guards: %v", err)
	}
}

func TestSentinel_OneSentinelIsEnoughAndAnUnknownNameIsSaid(t *testing.T) {
	t.Parallel()
	w, watched := sentinelWorld(t)
	wrong := w.open(t, func(c *Config) { c.MasterName = "nobody" })
	if _, err := wrong.Begin(t.Context(), nil); !errors.Is(err, ErrConfig) {
		t.Errorf("a name that no sentinel knows: %v", err)
	}
	watched.Sentinels[0].Kill()
	watched.Sentinels[1].Kill()
	target := w.open(t, nil)
	begin(t, target).Close()
	watched.Sentinels[2].Kill()
	if _, err := w.open(t, nil).Begin(t.Context(), nil); !errors.Is(err, ErrUnreachable) {
		t.Errorf("no sentinel at all: %v", err)
	}
	target.fleet.current.Load().asked = time.Now().Add(-2 * sentinelAge)
	begin(t, target) // what is known and works is kept
}

func confirming(replicas int, timeout time.Duration) func(*Config) {
	return func(c *Config) { c.Confirm = Confirm{Replicas: replicas, Timeout: timeout} }
}

func replicated(t testing.TB) (*world, *services.RedisServer, *services.RedisServer) {
	primary := services.OwnRedis(t)
	replica := services.OwnReplica(t, primary)
	return &world{kind: Standalone, config: Config{Name: "cache", Addr: primary.Addr}}, primary, replica
}

func TestConfirm_FrozenReplicaLeavesWritesUnconfirmed(t *testing.T) {
	t.Parallel()
	w, primary, replica := replicated(t)
	keys := keysOf(t, 120)
	first := each(keys, func(key string) Guarded { return set(key, 1, "v") })
	expectAll(t, apply(t, beginFor(t, w.open(t, confirming(1, 10*time.Second)), keys), first...), OutcomeApplied)
	target := w.open(t, confirming(1, 200*time.Millisecond))
	primary.Do("RPUSH", "list", "x")
	other := w.open(t, nil).only().client.Conn()
	defer func() { _ = other.Close() }()
	spare := []*Batch{begin(t, target), begin(t, target)} // connections of the pool that were in use before
	spare[0].Close()
	spare[1].Close()
	services.Eventually(t, "the replica has all", func() bool { return other.Wait(t.Context(), 1, time.Second).Val() == 1 })

	replica.Freeze()
	batch := beginFor(t, target, keys)
	writes := append(each(keys, func(key string) Guarded { return set(key, 2, "v2") }), set("list", 1, "v"), set(keys[0], 1, "old"))
	outcomes, err := batch.Apply(t.Context(), writes)
	expectOver(t, err, ErrUnconfirmed)
	expectAll(t, outcomes[:len(keys)], OutcomeUnconfirmed)
	expectOutcome(t, outcomes[len(keys):], OutcomeWrongType, OutcomeUnconfirmed)
	if err := beginFor(t, target, keys).Invalidate(t.Context(), pair(keys[1])); !errors.Is(err, ErrUnconfirmed) {
		t.Errorf("invalidate: %v", err)
	}
	// The negative control: asked over another connection, the server says that nothing is missing.
	if got, err := other.Wait(t.Context(), 1, time.Millisecond).Result(); got != 1 || err != nil {
		t.Errorf("WAIT on another connection answered %v, %v: the test shows nothing", got, err)
	}
	replica.Thaw()
	applyAgain(t, target, keys[2:], each(keys[2:], func(key string) Guarded { return set(key, 2, "v2") }))
	if got := replica.Do("GET", keys[2]); got != "v2" {
		t.Errorf("the replica has %v", got)
	}
}

// The write that superseded ours came over another connection, so WAIT would not speak of it.
func TestConfirm_SupersededIsDurableOnlyIfTheNewerWriteIs(t *testing.T) {
	t.Parallel()
	w, _, replica := replicated(t)
	key := keyOf(t, "k")
	target := w.open(t, confirming(1, 10*time.Second))
	expectOutcome(t, apply(t, begin(t, target), set(key, 1, "v")), OutcomeApplied)
	replica.Freeze()
	expectOutcome(t, apply(t, begin(t, w.open(t, nil)), set(key, 5, "v5")), OutcomeApplied)
	for _, token := range []uint64{5, 4} {
		outcomes, err := begin(t, w.open(t, confirming(1, 200*time.Millisecond))).Apply(t.Context(), []Guarded{set(key, token, "v")})
		expectOver(t, err, ErrUnconfirmed)
		expectOutcome(t, outcomes, OutcomeUnconfirmed)
	}
	replica.Thaw()
	services.Eventually(t, "superseded and durable", func() bool {
		batch := begin(t, target)
		defer batch.Close()
		outcomes, err := batch.Apply(t.Context(), []Guarded{set(key, 5, "v5")})
		return err == nil && outcomes[0] == OutcomeSuperseded
	})
	if got := replica.Do("GET", key); got != "v5" {
		t.Errorf("the replica has %v", got)
	}
}

// A server may leave a call that changed nothing out of what WAIT speaks of; so there is none.
func TestConfirm_SupersededWriteChangesItsGuardsTTL(t *testing.T) {
	t.Parallel()
	w, primary, _ := replicated(t)
	expectOutcome(t, apply(t, begin(t, w.open(t, nil)), set("k", 5, "v")), OutcomeApplied)
	for _, test := range []struct {
		change  func(*Config)
		renewed bool
	}{{nil, false}, {confirming(1, 10*time.Second), true}} {
		primary.Do("PEXPIRE", guardOf("k"), 30_000)
		expectOutcome(t, apply(t, begin(t, w.open(t, test.change)), set("k", 5, "v")), OutcomeSuperseded)
		if left := primary.Do("PTTL", guardOf("k")).(int64); left > 30_000 != test.renewed {
			t.Errorf("the guard lives %d ms, renewed: %v", left, test.renewed)
		}
	}
}

// A caller with less time than the configured timeout still gets an answer, and not a broken connection.
func TestConfirm_EndsBeforeTheCallersTime(t *testing.T) {
	t.Parallel()
	w, _, replica := replicated(t)
	target := w.open(t, confirming(1, 10*time.Second))
	expectOutcome(t, apply(t, begin(t, target), set("k", 1, "v")), OutcomeApplied)
	replica.Freeze()
	batch := begin(t, target)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	outcomes, err := batch.Apply(ctx, []Guarded{set("k", 2, "v")})
	expectOver(t, err, ErrUnconfirmed)
	expectOutcome(t, outcomes, OutcomeUnconfirmed)
	replica.Thaw()
}

func TestConfirm_AppendOnlyFileNeedsRedis72AndAFile(t *testing.T) {
	t.Parallel()
	for name, file := range map[string]string{"with a file": "yes", "without": "no"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := services.OwnRedis(t, "--appendonly", file)
			w := &world{config: Config{Name: "cache", Addr: s.Addr}}
			target := w.open(t, func(c *Config) { c.Confirm = Confirm{AOF: true} })
			batch, err := target.Begin(t.Context(), nil)
			if file == "no" || !atLeast(s.Info("server", "redis_version"), waitAOFSince) {
				if !errors.Is(err, ErrConfig) {
					t.Fatalf("error is %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer batch.Close()
			expectOutcome(t, apply(t, batch, set("k", 1, "v")), OutcomeApplied)
		})
	}
}

// A server of our own, since what a test finds installed may be too old for the question.
func TestConfirm_AppendOnlyFileCountsOnlyWhenTheDiskHasIt(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answer  string
		outcome Outcome
		err     error
	}{
		"both":             {"*2\r\n:1\r\n:1\r\n", OutcomeApplied, nil},
		"not its own disk": {"*2\r\n:0\r\n:1\r\n", OutcomeUnconfirmed, ErrUnconfirmed},
		"no replica":       {"*2\r\n:1\r\n:0\r\n", OutcomeUnconfirmed, ErrUnconfirmed},
		"an error":         {"-ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.\r\n", OutcomeUnknown, ErrUnexpected},
		"something else":   {"+OK\r\n", OutcomeUnknown, ErrUnexpected},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const info = "role:master\r\nredis_version:7.4.0\r\naof_enabled:1\r\n"
			addr := scripted(t, map[string]string{"info": fmt.Sprintf("$%d\r\n%s\r\n", len(info), info), "config": "*2\r\n$11\r\nappendfsync\r\n$6\r\nalways\r\n",
				"evalsha": "*1\r\n:1\r\n", "waitaof": test.answer})
			target := (&world{config: Config{Name: "cache", Addr: addr}}).open(t, func(c *Config) { c.Confirm = Confirm{Replicas: 1, AOF: true} })
			outcomes, err := begin(t, target).Apply(t.Context(), []Guarded{set("k", 1, "v")})
			if test.err == nil && err != nil || !errors.Is(err, test.err) {
				t.Errorf("error is %v, want %v", err, test.err)
			}
			expectOutcome(t, outcomes, test.outcome)
		})
	}
}

func TestTarget_CheckTellsWhatCanNeverBeConfirmed(t *testing.T) {
	t.Parallel()
	w, _, _ := replicated(t)
	for name, test := range map[string]struct {
		confirm Confirm
		err     error
	}{
		"nothing asked":     {Confirm{}, nil},
		"one replica":       {Confirm{Replicas: 1}, nil},
		"too many replicas": {Confirm{Replicas: 2}, ErrConfig},
		"no file":           {Confirm{AOF: true}, ErrConfig},
	} {
		if err := w.open(t, func(c *Config) { c.Confirm = test.confirm }).Check(t.Context()); test.err == nil && err != nil || !errors.Is(err, test.err) {
			t.Errorf("%s: %v, want %v", name, err, test.err)
		}
	}
}

func TestConfirm_VersionsAreComparedByNumber(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]bool{"7.2.0": true, "7.10.1": true, "8.0.0": true, "10.0": true, "7.0.15": false, "6.9.9": false, "7": false, "": false, "x.y": false} {
		if got := atLeast(version, waitAOFSince); got != want {
			t.Errorf("%q at least 7.2: %v", version, got)
		}
	}
}

func TestServer_RestartWithAnOldDumpShowsInTheLifeAndInDurableSince(t *testing.T) {
	t.Parallel()
	s := services.OwnRedis(t)
	w := &world{config: Config{Name: "cache", Addr: s.Addr}}
	target := w.open(t, nil)
	key := keyOf(t, "k")
	expectOutcome(t, apply(t, begin(t, target), set(key, 1, "old")), OutcomeApplied)
	if since := identityOf(t, target).DurableSince(); since != 0 {
		t.Fatalf("nothing was ever saved, durable since %d", since)
	}
	services.Eventually(t, "some seconds of life", func() bool { n, _ := strconv.Atoi(s.Info("server", "uptime_in_seconds")); return n >= 3 })
	s.Do("DEL", guardOf(key)) // as if it had expired long ago
	s.Do("SAVE")
	batch := begin(t, target)
	expectOutcome(t, apply(t, batch, set(key, 9, "new")), OutcomeApplied)
	before := identityOf(t, target)
	lost := batch.parts[0].beginMillis
	batch.Close()
	if since := before.DurableSince(); since == 0 || since > lost {
		t.Errorf("written at %d, durable since %d: the loss would not be seen", lost, since)
	}
	s.Kill()
	s.Start()
	if s.Do("GET", key) != "old" || s.Do("EXISTS", guardOf(key)) != int64(0) {
		t.Fatal("the old dump did not come back: the test shows nothing")
	}
	// Without its guard the key takes any token: what protects it is the caller, who sees another life.
	expectOutcome(t, apply(t, begin(t, target), set(key, 2, "older")), OutcomeApplied)
	if after := identityOf(t, target); after.Life == before.Life || after.DurableSince() != 0 {
		t.Errorf("life %q, before %q, durable since %d", after.Life, before.Life, after.DurableSince())
	}
}

func identityOf(t testing.TB, target *Target) Identity {
	t.Helper()
	identity, err := target.Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return identity
}

func TestServer_DurableSinceGoesByTheAppendOnlyFile(t *testing.T) {
	t.Parallel()
	for policy, check := range map[string]func(s Server) bool{
		"always":   func(s Server) bool { return s.DurableSince() == NothingLost },
		"everysec": func(s Server) bool { return s.DurableSince() == s.ClockMillis-2000 },
		"no":       func(s Server) bool { return s.DurableSince() == 0 },
	} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			s := services.OwnRedis(t, "--appendonly", "yes", "--appendfsync", policy)
			target := (&world{config: Config{Name: "cache", Addr: s.Addr}}).open(t, nil)
			expectOutcome(t, apply(t, begin(t, target), set("k", 1, "v")), OutcomeApplied)
			servers := append(identityOf(t, target).Servers, begin(t, target).Identity().Servers...)
			for _, server := range servers {
				if server.AppendFsync != policy || !check(server) {
					t.Errorf("%+v: durable since %d", server, server.DurableSince())
				}
			}
			if policy != "always" {
				return
			}
			s.Kill()
			s.Start()
			if s.Do("GET", "k") != "v" || s.Do("HGET", guardOf("k"), "t") != "1" {
				t.Error("an acknowledged write or its guard is gone")
			}
		})
	}
	broken := Server{AOF: true, AOFBroken: true, AppendFsync: "always", ClockMillis: 9, SavedMillis: 5}
	if hidden := (Server{AOF: true, ClockMillis: 9, SavedMillis: 5}); hidden.DurableSince() != 0 || broken.DurableSince() != 0 || (Identity{}).DurableSince() != 0 {
		t.Error("what is not known must count as lost")
	}
}

func TestServer_ReplicasTellHowFarTheyAre(t *testing.T) {
	t.Parallel()
	w, _, replica := replicated(t)
	target := w.open(t, nil)
	expectOutcome(t, apply(t, begin(t, target), set("k", 1, "v")), OutcomeApplied)
	services.Eventually(t, "the replica has acknowledged all", func() bool {
		s := identityOf(t, target).Servers[0]
		return len(s.Replicas) == 1 && s.Replicas[0].Online && s.Replicas[0].Addr == replica.Addr && s.Replicas[0].Offset == s.Offset
	})
	replica.Freeze()
	expectOutcome(t, apply(t, begin(t, target), set("k", 2, "v")), OutcomeApplied)
	if s := identityOf(t, target).Servers[0]; len(s.Replicas) != 1 || s.Replicas[0].Offset >= s.Offset {
		t.Errorf("a frozen replica: %+v", s)
	}
	replica.Thaw()
}

// Why a write-through mapping is refused on such a server: every guard has a TTL and goes first, the data stays, and an older write lands.
func TestEviction_VolatileTTLTakesGuardsBeforeData(t *testing.T) {
	t.Parallel()
	for policy, older := range map[string]Outcome{"volatile-ttl": OutcomeApplied, "noeviction": OutcomeSuperseded} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			s := services.OwnRedis(t, "--maxmemory-policy", policy)
			target := (&world{config: Config{Name: "cache", Addr: s.Addr}}).open(t, nil)
			if got := identityOf(t, target).MaxMemoryPolicy; got != policy {
				t.Fatalf("policy is %q", got)
			}
			key := keyOf(t, "k")
			expectOutcome(t, apply(t, begin(t, target), set(key, 9, "new")), OutcomeApplied)
			used, _ := strconv.Atoi(s.Info("memory", "used_memory"))
			s.Do("CONFIG", "SET", "maxmemory", used+1<<20)
			for i := range 400 { // two megabytes
				s.Client.Set(t.Context(), "filler:"+strconv.Itoa(i), make([]byte, 5_000), 0)
			}
			if s.Do("EXISTS", key) != int64(1) {
				t.Fatal("the data is gone: the test shows nothing")
			}
			if gone := s.Do("EXISTS", guardOf(key)) == int64(0); gone != (older == OutcomeApplied) {
				t.Fatalf("guard gone: %v", gone)
			}
			s.Do("CONFIG", "SET", "maxmemory", 0)
			expectOutcome(t, apply(t, begin(t, target), set(key, 3, "older")), older)
		})
	}
}
