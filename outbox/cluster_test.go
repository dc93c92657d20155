package outbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/cluster_test/services"
	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/outbox"
	"github.com/quiescehq/quiesce/rediscache"
)

// clustered is a world whose target is a Redis Cluster. A batch there has time for what a test does in the middle of it.
func clustered(t testing.TB) (*world, *services.RedisCluster) {
	t.Helper()
	place := services.Require(t)
	w := newWorld(t, place.MySQLDSN, place.RedisAddr, place.Prefix, 0)
	cluster := services.OwnCluster(t)
	target, err := rediscache.Open(rediscache.Config{Name: targetName, Kind: rediscache.Cluster, Addrs: cluster.Addrs, Deadline: time.Minute, GuardTTL: 4 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	closeAll(t, w.target.Close)
	w.target = target // the world closes it
	w.places.Targets = map[string]outbox.Target{targetName: outbox.Redis(target)}
	w.cfg.CallTimeout, w.cfg.AttemptTimeout = 30*time.Second, time.Minute
	return w, cluster
}

// A slot moves to another server after a batch has read its rows and before it writes them. The server that had it answers with a redirect. That is not followed, and ends this
// server's share of the batch; the shares of the others settle. What was not written is read again, and every key ends as its row is.
func TestDelivery_SlotThatMovesInMidBatchLeavesEveryKeyRight(t *testing.T) {
	t.Parallel()
	const count = 90
	w, cluster := clustered(t)
	w.fill(t, count)
	task := w.task(t)
	resign := lead(t, task)
	w.enqueueAll(t, count)
	w.drained(t)
	w.agree(t, count)
	resign()

	w.exec(t, "UPDATE items SET v = CONCAT('second ', id), n = n + 1")
	from := cluster.Owner(w.key(1))
	byServer := map[int]int{}
	for id := 1; id <= count; id++ {
		byServer[cluster.Owner(w.key(id))]++
	}
	if len(byServer) < 2 {
		t.Fatalf("all keys live on one server: %v", byServer)
	}
	reached, proceed := make(chan struct{}), make(chan struct{})
	var first sync.Once
	var outcomes map[string]rediscache.Outcome
	var failed error
	steps := w.steps()
	steps.beforeApply = func(context.Context, []rediscache.Guarded) { first.Do(func() { close(reached); <-proceed }) }
	steps.afterApply = func(writes []rediscache.Guarded, found []rediscache.Outcome, err error) error {
		if outcomes == nil {
			failed, outcomes = err, map[string]rediscache.Outcome{}
			for i, o := range found {
				outcomes[writes[i].Write.Key] = o
			}
		}
		return err
	}
	w.cfg.BatchesMax, w.cfg.BreakerFailures = 1, 2 // one share's fault is no reason to leave the others alone
	w.enqueueAll(t, count)
	task = w.task(t)
	resign = lead(t, task)
	<-reached
	to := (from + 1) % len(cluster.Primaries)
	cluster.Migrate(w.key(1), to)
	w.exec(t, "UPDATE items SET v = 'third' WHERE id = 1") // after the batch has read it: who only sent it again would write what was
	close(proceed)
	w.drained(t)
	resign()
	w.agree(t, count)
	if failed == nil || outcomes[w.key(1)] != rediscache.OutcomeUnknown {
		t.Errorf("the batch that met the redirect answered %v for the key that moved, and %v: the test shows nothing", outcomes[w.key(1)], failed)
	}
	settled := 0
	for _, o := range outcomes {
		if o == rediscache.OutcomeApplied {
			settled++
		}
	}
	if others := count - byServer[from]; settled < others {
		t.Errorf("%d keys of that batch were written, though %d live on other servers", settled, others)
	}
	if dead, spent := w.log.dead(mappingName), attemptsSpent(w); dead != 0 || spent != 0 {
		t.Errorf("%d dead letters, %d attempts", dead, spent)
	}
	if owner := cluster.Owner(w.key(1)); owner != to {
		t.Errorf("the key is on server %d, not on %d", owner, to)
	}
}

// Braces in a key choose its slot. Whatever they are, the guard has to live beside its key, for a script reaches no other slot.
func TestDelivery_KeysWithBracesAreGuardedInTheirSlot(t *testing.T) {
	t.Parallel()
	w, cluster := clustered(t)
	w.exec(t, "ALTER TABLE items MODIFY v VARCHAR(100) COLLATE utf8mb4_bin NOT NULL, ADD UNIQUE (v)")
	names := []string{"plain", "{", "}", "{}", "}{", "a{b", "a}b", "{a}", "a{b}c", "a{}b", "{}{a}", "{{a}}", "a{b{c}d}", "{a}{b}", "a}{b}", "{ä}"}
	for _, name := range names {
		w.exec(t, "INSERT INTO items (id, v, n) VALUES ((SELECT COUNT(*) + 1 FROM (SELECT id FROM items) had), ?, 1)", name)
	}
	for i, template := range []string{"b:{v}", "b:{{shop}}:{v}", "{v}:b"} {
		t.Run(template, func(t *testing.T) {
			name := fmt.Sprintf("braces-%d", i)
			spec := w.spec()
			spec.KeyColumns, spec.Key, spec.GuardPrefix = []string{"v"}, template, fmt.Sprintf("g%d:", i)
			w.putMapping(t, name, spec)
			resign := lead(t, w.task(t))
			for _, text := range names {
				ref := named(text)
				ref.Mapping = name
				w.enqueue(t, ref)
			}
			eventually(t, "all is delivered", func() bool { return w.log.pending(name) == 0 })
			resign()
			if dead := w.log.dead(name); dead != 0 {
				t.Fatalf("%d dead letters", dead)
			}
			rule := w.rule(t, name)
			for id, text := range names {
				key := rule.Keys([]string{text})[0]
				guard := rule.Guard(key)
				if one, other := cluster.Primaries[0].Do("CLUSTER", "KEYSLOT", key), cluster.Primaries[0].Do("CLUSTER", "KEYSLOT", guard); one != other {
					t.Errorf("%s is in slot %v, its guard %s in %v", key, one, guard, other)
				}
				read, err := w.target.Read(t.Context(), []rediscache.KeyRequest{{Key: key, Type: mapping.TypeString}, {Key: guard, Type: mapping.TypeHash}})
				if err != nil {
					t.Fatal(err)
				}
				if want := value(id+1, text, 1); string(read[0].Value) != want || len(read[1].Fields) == 0 {
					t.Errorf("%s holds %q, want %q; its guard has %d fields", key, read[0].Value, want, len(read[1].Fields))
				}
			}
		})
	}
}

// rule is the mapping as the state has it.
func (w *world) rule(t testing.TB, name string) *mapping.Mapping {
	t.Helper()
	var record fsm.Mapping
	w.log.View(func(s *fsm.State) { record, _ = s.Mapping(name) })
	var spec mapping.Spec
	var columns []mapping.Column
	if err := errors.Join(json.Unmarshal(record.Spec, &spec), json.Unmarshal(record.Columns, &columns)); err != nil {
		t.Fatal(err)
	}
	rule, err := mapping.Compile(spec, record.Revision, columns)
	if err != nil {
		t.Fatal(err)
	}
	return rule
}
