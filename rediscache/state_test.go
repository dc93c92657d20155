package rediscache

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/quiescehq/quiesce/cluster_test/harness"
	"github.com/quiescehq/quiesce/cluster_test/services"
	"github.com/quiescehq/quiesce/mapping"
)

func TestBatch_ReplicaTakesNoWrites(t *testing.T) {
	t.Parallel()
	s := ownServer(t)
	target := openTarget(t, s, nil)
	key := keyOf(t, "k")
	batch := begin(t, target)
	s.do(t, "REPLICAOF", "127.0.0.1", "1")
	outcomes, err := batch.Apply(t.Context(), []Guarded{set(key, 1, "v")})
	expectOver(t, err, ErrNotPrimary)
	expectOutcome(t, outcomes, OutcomeUnknown)
	batch.Close()
	if _, err := target.Begin(t.Context(), nil); !errors.Is(err, ErrNotPrimary) {
		t.Fatalf("begin on a replica: %v", err)
	}
	if identity, err := target.Identity(t.Context()); err != nil || identity.Role == RolePrimary {
		t.Fatalf("identity %+v, %v", identity, err)
	}
	s.do(t, "REPLICAOF", "NO", "ONE")
	expectOutcome(t, apply(t, begin(t, target), set(key, 1, "v")), OutcomeApplied)
}

func TestBatch_OutOfMemoryStopsWritesButNotRemovals(t *testing.T) {
	t.Parallel()
	s := ownServer(t, "--maxmemory-policy", "noeviction")
	target := openTarget(t, s, nil)
	kept, removed, invalidated := keyOf(t, "kept"), keyOf(t, "removed"), keyOf(t, "invalidated")
	apply(t, begin(t, target), set(kept, 1, "old"), set(removed, 1, "old"), set(invalidated, 1, "old"))
	s.do(t, "CONFIG", "SET", "maxmemory", "1")

	for _, guarded := range []Guarded{set(kept, 2, "new"), hash(keyOf(t, "hash"), 2, text("a", "1"))} {
		batch := begin(t, target)
		outcomes, err := batch.Apply(t.Context(), []Guarded{guarded})
		expectOver(t, err, ErrOutOfMemory)
		expectOutcome(t, outcomes, OutcomeUnknown)
		_, err = batch.Apply(t.Context(), []Guarded{del(removed, 9)})
		expectOver(t, err, ErrOutOfMemory)
		batch.Close()
	}
	if !s.exists(t, removed) {
		t.Fatal("a batch that is over went on")
	}
	if got, guard := s.get(t, kept), s.fields(t, guardOf(kept))["t"]; got != "old" || guard != "1" {
		t.Fatalf("half a write: value %q, guard %s", got, guard)
	}
	expectOutcome(t, apply(t, begin(t, target), del(removed, 2)), OutcomeApplied)
	invalidate(t, target, invalidated)
	if s.exists(t, removed) || s.exists(t, invalidated) {
		t.Fatal("a removal needs no memory")
	}
}

func TestBatch_BusyServerSnoozes(t *testing.T) {
	t.Parallel()
	s := ownServer(t, "--lua-time-limit", "20")
	target := openTarget(t, s, nil)
	batch := begin(t, target)
	var group errgroup.Group
	group.Go(func() error {
		err := s.control.Eval(t.Context(), "while true do end", nil).Err()
		if err == nil || !strings.Contains(err.Error(), "killed") {
			return errors.Join(errors.New("the endless script ended by itself"), err)
		}
		return nil
	})
	eventually(t, "busy", func() bool {
		err := s.control.Get(t.Context(), "k").Err()
		return err != nil && strings.HasPrefix(err.Error(), "BUSY")
	})
	_, err := batch.Apply(t.Context(), []Guarded{set(keyOf(t, "k"), 1, "v")})
	expectOver(t, err, ErrSnooze)
	if _, err := target.Begin(t.Context(), nil); !errors.Is(err, ErrSnooze) {
		t.Fatalf("begin: %v", err)
	}
	s.do(t, "SCRIPT", "KILL")
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

func TestBatch_LoadingServerSnoozes(t *testing.T) {
	t.Parallel()
	s := ownServer(t, "--enable-debug-command", "yes", "--loading-process-events-interval-bytes", "1024")
	target := openTarget(t, s, nil)
	batch := begin(t, target)
	s.do(t, "DEBUG", "POPULATE", "20000")
	s.do(t, "CONFIG", "SET", "key-load-delay", "200") // microseconds for a key: four seconds in all, unless ended below
	var group errgroup.Group
	group.Go(func() error {
		loader := redis.NewClient(&redis.Options{Addr: s.addr, ReadTimeout: -1, MaxRetries: -1, Protocol: 2, DisableIdentity: true})
		return errors.Join(loader.Do(t.Context(), "DEBUG", "RELOAD").Err(), loader.Close())
	})
	eventually(t, "loading", func() bool {
		err := s.control.Get(t.Context(), "k").Err()
		return err != nil && strings.HasPrefix(err.Error(), "LOADING")
	})
	_, err := batch.Apply(t.Context(), []Guarded{set(keyOf(t, "k"), 1, "v")})
	expectOver(t, err, ErrSnooze)
	if _, err := target.Begin(t.Context(), nil); !errors.Is(err, ErrSnooze) {
		t.Fatalf("begin: %v", err)
	}
	if _, err := target.Read(t.Context(), []KeyRequest{{Key: "k", Type: mapping.TypeString}}); !errors.Is(err, ErrSnooze) {
		t.Fatalf("read: %v", err)
	}
	s.do(t, "CONFIG", "SET", "key-load-delay", "0")
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	expectOutcome(t, apply(t, begin(t, target), set(keyOf(t, "k"), 1, "v")), OutcomeApplied)
}

func TestTarget_AccountsAreRefusedByName(t *testing.T) {
	t.Parallel()
	acl := filepath.Join(t.TempDir(), "users.acl")
	const users = "user default on nopass ~* &* +@all\nuser reader on >secret ~* +@read +hello +time +info\n"
	if err := os.WriteFile(acl, []byte(users), 0o600); err != nil {
		t.Fatal(err)
	}
	s := ownServer(t, "--aclfile", acl)
	wrong := openTarget(t, s, func(c *Config) { c.Username, c.Password = "reader", "wrong" })
	if _, err := wrong.Begin(t.Context(), nil); !errors.Is(err, ErrDenied) {
		t.Fatalf("wrong password: %v", err)
	}
	reader := openTarget(t, s, func(c *Config) { c.Username, c.Password = "reader", "secret" })
	if _, err := reader.Read(t.Context(), []KeyRequest{{Key: "k", Type: mapping.TypeString}}); err != nil {
		t.Fatalf("read: %v", err)
	}
	_, err := begin(t, reader).Apply(t.Context(), []Guarded{set(keyOf(t, "k"), 1, "v")})
	expectOver(t, err, ErrDenied)
}

// The list is doc.go's. SCRIPT FLUSH makes the account load the scripts itself.
const documentedAccount = "hello time info evalsha script|load type get mget hgetall pttl set hset hdel hget hmget unlink persist pexpire"

func TestTarget_DocumentedAccountSufficesInAClusterToo(t *testing.T) {
	t.Parallel()
	s := services.OwnRedis(t, "--cluster-enabled", "yes", "--cluster-port", portOf(harness.FreeAddr(t)))
	s.Do("CLUSTER", "ADDSLOTSRANGE", 0, slotCount-1)
	rules := []any{"ACL", "SETUSER", "cache", "on", ">secret", "~*", "-@all"}
	for command := range strings.FieldsSeq(documentedAccount + " cluster|slots scan dbsize wait") {
		rules = append(rules, "+"+command)
	}
	s.Do(rules...)
	w := &world{config: Config{Name: "cache", Kind: Cluster, Addrs: []string{s.Addr}, Username: "cache", Password: "secret"}}
	key := keyOf(t, "k")
	services.Eventually(t, "the cluster serves", func() bool { return s.Client.Exists(t.Context(), key).Err() == nil })
	target := w.open(t, nil)
	expectOutcome(t, apply(t, begin(t, target), set(key, 1, "v"), replacing(hash(keyOf(t, "h"), 1, text("a", "1")))), OutcomeApplied, OutcomeApplied)
	if _, err := target.Guards(t.Context(), []string{guardOf(key)}); err != nil {
		t.Error(err)
	}
	if got := sweepAll(t, beginSweep(t, target), globOf(key)+"*"); got != 2 {
		t.Errorf("%d removed", got)
	}
	// There is no replica: that it is asked for one is what the account has to allow.
	_, err := begin(t, w.open(t, confirming(1, time.Millisecond))).Apply(t.Context(), []Guarded{set(key, 2, "v")})
	expectOver(t, err, ErrUnconfirmed)
}

func TestTarget_DocumentedAccountSuffices(t *testing.T) {
	t.Parallel()
	s := ownServer(t)
	commands := documentedAccount
	rules := []any{"ACL", "SETUSER", "cache", "on", ">secret", "~*", "-@all"}
	for command := range strings.FieldsSeq(commands) {
		rules = append(rules, "+"+command)
	}
	s.do(t, rules...)
	s.do(t, "SCRIPT", "FLUSH")
	target := openTarget(t, s, func(c *Config) { c.Username, c.Password = "cache", "secret" })
	str, hsh := keyOf(t, "string"), keyOf(t, "hash")
	batch := begin(t, target)
	expectOutcome(t, apply(t, batch, set(str, 1, "v"), hash(hsh, 1, text("a", "1"), null("b")), withTTL(hash(hsh, 2, null("c")), time.Minute), del(str, 2)),
		OutcomeApplied, OutcomeApplied, OutcomeApplied, OutcomeApplied)
	requests := []KeyRequest{{Key: hsh, Type: mapping.TypeHash}, {Key: hsh, Type: mapping.TypeString}, {Key: str, Type: mapping.TypeString}}
	if _, err := target.Read(t.Context(), requests); err != nil {
		t.Fatal(err)
	}
	if err := batch.Invalidate(t.Context(), pair(hsh)); err != nil {
		t.Fatal(err)
	}
	if _, err := target.Identity(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestTarget_IdentityNamesTheServer(t *testing.T) {
	t.Parallel()
	s := ownServer(t, "--maxmemory-policy", "allkeys-lru")
	target := openTarget(t, s, nil)
	identity, err := target.Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(identity.Servers[0].RunID) != 40 || len(identity.Servers[0].ReplID) != 40 || identity.Role != RolePrimary || identity.Version == "" ||
		identity.MaxMemoryPolicy != "allkeys-lru" || identity.Loading {
		t.Fatalf("%+v", identity)
	}
	if batch := begin(t, target); batch.Identity().Servers[0].RunID != identity.Servers[0].RunID {
		t.Fatalf("batch is on %+v", batch.Identity())
	}
}
