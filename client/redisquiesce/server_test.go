package redisquiesce_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/quiescehq/quiesce/client/fence"
	"github.com/quiescehq/quiesce/client/redisquiesce"
	"github.com/quiescehq/quiesce/cluster_test/harness"
)

func TestFence_ServerThatForgotTheScriptsIsToldThem(t *testing.T) {
	t.Parallel()
	s := connect(t, ownServer(t))
	for name, write := range operations(s.fence, "a") {
		for range 2 {
			s.do("DEL", "a")
			if err := write(t.Context(), 5); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			s.do("SCRIPT", "FLUSH")
		}
		if err := write(t.Context(), 4); !errors.Is(err, fence.ErrFenced) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFence_ErrorOfTheServerLeavesTheKeyAsItWas(t *testing.T) {
	t.Parallel()
	s := connect(t, ownServer(t))
	s.do("SET", "a", "before")
	err := s.fence.HSet(t.Context(), 5, "a", map[string]any{"f": 1})
	if err == nil || !strings.Contains(err.Error(), "WRONGTYPE") || s.do("GET", "a") != "before" {
		t.Errorf("HSET over a string: %v, and it holds %v", err, s.do("GET", "a"))
	}
	s.do("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1")
	for _, token := range []uint64{5, 6} {
		if err := s.fence.Set(t.Context(), token, "a", "after", 0); err == nil || !strings.Contains(err.Error(), "OOM") {
			t.Errorf("a write into full memory: %v", err)
		}
	}
	if s.do("GET", "a") != "before" || s.do("GET", s.guard("a")) != "5" {
		t.Errorf("full memory: the key holds %v, its guard %v", s.do("GET", "a"), s.do("GET", s.guard("a")))
	}
	if removed, err := s.fence.Del(t.Context(), 6, "a"); !removed || err != nil || s.do("GET", s.guard("a")) != "6" {
		t.Errorf("a removal while memory is full: %v, %v, the guard holds %v", removed, err, s.do("GET", s.guard("a")))
	}
}

// keys with and without hash tags, in every place.
var keys = []string{"a", "order:42", "{a}", "cart:{7}", "{7}:cart", "x{a}y{b}z", "{a", "a}", "{a}}", "x{{a}}", "ä:ß", "{}a", "a{}", "qf:{a}", "qf::{a}", "a\x00b"}

func TestGuardKey_SharesTheSlotAndNoOtherKeysGuard(t *testing.T) {
	t.Parallel()
	addr := ownServer(t, "--cluster-enabled", "yes")
	s := connect(t, addr)
	s.do("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
	harness.Eventually(t, startWithin, "the cluster to be one", func() error {
		if info, _ := s.do("CLUSTER", "INFO").(string); !strings.Contains(info, "cluster_state:ok") {
			return errors.New(info)
		}
		return nil
	})
	cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{addr}})
	t.Cleanup(func() { _ = cluster.Close() })
	f := redisquiesce.NewFence(cluster)
	guards := map[string]string{}
	for _, key := range keys {
		guard, err := redisquiesce.GuardKey(key)
		if errors.Is(err, redisquiesce.ErrKey) {
			continue
		}
		if other, taken := guards[guard]; taken {
			t.Errorf("%q and %q share the guard %q", key, other, guard)
		}
		guards[guard] = key
		if one, two := s.do("CLUSTER", "KEYSLOT", key), s.do("CLUSTER", "KEYSLOT", guard); one != two {
			t.Errorf("%q is in slot %v, its guard %q in %v", key, one, guard, two)
		}
		if err := f.Set(t.Context(), 5, key, "v", time.Minute); err != nil {
			t.Errorf("%q: %v", key, err)
		}
		if err := f.Set(t.Context(), 4, key, "v", time.Minute); !errors.Is(err, fence.ErrFenced) {
			t.Errorf("%q: %v", key, err)
		}
	}
	if len(guards) < 10 {
		t.Errorf("only %d keys were looked at", len(guards))
	}
}

// The rule of Redis Cluster, told anew, decides; and a guard tells its key, so that no two keys have the same.
func FuzzGuardKey_SharesTheSlotAndNoOtherKeysGuard(f *testing.F) {
	for _, key := range keys {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		guard, err := redisquiesce.GuardKey(key)
		if err != nil {
			return
		}
		if hashed(guard) != hashed(key) {
			t.Errorf("%q is hashed by %q, its guard %q by %q", key, hashed(key), guard, hashed(guard))
		}
		if back, err := keyOf(guard); err != nil || back != key {
			t.Errorf("the guard %q of %q is also that of %q (%v)", guard, key, back, err)
		}
	})
}

// hashed is the part of a key that finds its slot.
func hashed(key string) string {
	for i := range len(key) {
		if key[i] != '{' {
			continue
		}
		if end := strings.IndexByte(key[i:], '}'); end > 1 {
			return key[i+1 : i+end]
		}
		break
	}
	return key
}

// keyOf reads a guard back.
func keyOf(guard string) (string, error) {
	rest, ours := strings.CutPrefix(guard, "qf:")
	if tagged, ok := strings.CutPrefix(rest, ":"); ours && ok {
		return tagged, nil
	}
	if ours && strings.HasPrefix(rest, "{") && strings.HasSuffix(rest, "}") {
		return rest[1 : len(rest)-1], nil
	}
	return "", fmt.Errorf("%q is no guard", guard)
}
