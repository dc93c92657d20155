package rediscache

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/mapping"
)

func openTarget(t testing.TB, s *server, change func(*Config)) *Target {
	t.Helper()
	s.ensure(t)
	config := Config{Name: "cache", Addr: s.addr}
	if change != nil {
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

func begin(t testing.TB, target *Target) *Batch {
	t.Helper()
	batch, err := target.Begin(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(batch.Close)
	return batch
}

// afterFence begins in a later millisecond than every invalidate so far: within the same one the fence refuses, to be safe.
func afterFence(t testing.TB, target *Target) *Batch {
	t.Helper()
	fence := begin(t, target)
	fence.Close()
	for {
		batch := begin(t, target)
		if batch.parts[0].beginMillis > fence.parts[0].beginMillis {
			return batch
		}
		batch.Close()
	}
}

func apply(t testing.TB, batch *Batch, writes ...Guarded) []Outcome {
	t.Helper()
	outcomes, err := batch.Apply(t.Context(), writes)
	if err != nil {
		t.Fatal(err)
	}
	return outcomes
}

func expectOutcome(t testing.TB, got []Outcome, want ...Outcome) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d outcomes %v, want %v", len(got), got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("outcome %d is %v, want %v (all: %v)", i, got[i], want[i], got)
		}
	}
}

// keyOf is a data key of the test's own.
func keyOf(t testing.TB, name string) string {
	run, _ := runs.LoadOrStore(t, serial.Add(1))
	return fmt.Sprintf("%s#%d:%s", t.Name(), run, name)
}

// A test that runs again (-count) must not meet the guards of its first run.
var (
	runs   sync.Map // testing.TB -> number
	serial atomic.Int64
)

func guardOf(key string) string { return "qg:{" + key + "}" }

func set(key string, token uint64, value string) Guarded {
	return Guarded{Token: token, Write: mapping.Write{Key: key, Guard: guardOf(key), Op: mapping.OpSet, Value: []byte(value)}}
}

func del(key string, token uint64) Guarded {
	return Guarded{Token: token, Write: mapping.Write{Key: key, Guard: guardOf(key), Op: mapping.OpDel}}
}

func hash(key string, token uint64, fields ...mapping.Field) Guarded {
	return Guarded{Token: token, Write: mapping.Write{Key: key, Guard: guardOf(key), Op: mapping.OpHash, Fields: fields}}
}

func text(name, value string) mapping.Field { return mapping.Field{Name: name, Value: []byte(value)} }

func null(name string) mapping.Field { return mapping.Field{Name: name, Null: true} }

func withTTL(guarded Guarded, ttl time.Duration) Guarded {
	guarded.Write.TTLMillis = ttl.Milliseconds()
	return guarded
}

func pair(key string) []KeyPair { return []KeyPair{{Key: key, Guard: guardOf(key)}} }

func (s *server) get(t testing.TB, key string) string {
	t.Helper()
	value, err := s.control.Get(context.Background(), key).Result()
	if err != nil {
		t.Fatalf("GET %s: %v", key, err)
	}
	return value
}

func (s *server) exists(t testing.TB, key string) bool {
	t.Helper()
	n, err := s.control.Exists(context.Background(), key).Result()
	if err != nil {
		t.Fatal(err)
	}
	return n == 1
}

func (s *server) fields(t testing.TB, key string) map[string]string {
	t.Helper()
	fields, err := s.control.HGetAll(context.Background(), key).Result()
	if err != nil {
		t.Fatal(err)
	}
	return fields
}

func (s *server) do(t testing.TB, args ...any) any {
	t.Helper()
	reply, err := s.control.Do(context.Background(), args...).Result()
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return reply
}

// only is the server of a target that has one.
func (t *Target) only() *node { return t.fleet.current.Load().nodes[0] }
