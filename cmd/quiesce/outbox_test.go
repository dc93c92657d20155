package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client/quiescetest"
)

func TestOutbox_CommandsAreThoseOfTheAPI(t *testing.T) {
	t.Parallel()
	_, addr := quiescetest.Start(t)
	file := filepath.Join(t.TempDir(), "orders.yaml")
	if err := os.WriteFile(file, []byte("source: main\ntable: orders\nprimary_key: [id]\ntarget: cache\nkey: \"order:{id}\"\nmode: invalidate\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(t.TempDir(), "empty.yaml")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		line string
		code int
		want string
	}{
		{"mapping apply orders -f " + file, 0, "orders has revision 1"},
		{"mapping apply orders", exitUsage, "needs -f"},
		{"mapping apply orders -f " + empty, exitUsage, "no specification"},
		{"mapping apply orders -f /does/not/exist", exitUsage, "no such file"},
		{"mapping apply Orders -f " + file, exitUsage, "(invalid)"},
		{"mapping ls", 0, "order:{id}"},
		{"mapping show orders", 0, "mode: invalidate"},
		{"mapping show nothing", 1, "mapping_not_found"},
		{"mapping check orders", 0, "it can be declared"},
		{"mapping check other -f " + file, 0, "it can be declared"},
		{"mapping check other", 1, "mapping_not_found"},
		{"outbox stats", 0, "0 pending, 0 prepared, 0 dead"},
		{"outbox pause --mapping orders --reason lunch", 0, "mapping orders is paused"},
		{"outbox pause", exitUsage, "exactly one"},
		{"outbox pause --all --target cache", exitUsage, "exactly one"},
		{"outbox stats", 0, "mapping orders, because lunch"},
		{"outbox stats", 0, "held up: paused"},
		{"outbox resume --mapping orders", 0, "goes on"},
		{"outbox ls --mapping orders", 0, "LAST FAILURE"},
		{"outbox prepared", 0, "FENCE"},
		{"outbox show orders 42", 0, "nothing is remembered"},
		{"outbox dead ls", 0, "DEAD FOR"},
		{"outbox dead replay --mapping orders --dry-run", 0, "0 dead letters would be replayed"},
		{"outbox dead replay --mapping orders --key 42 --rate 10", 0, "0 of 0 dead letters replayed"},
		{"outbox dead discard", exitUsage, "say all"},
		{"outbox dead discard --all", 0, "0 of 0 dead letters discarded"},
		{"key timeline orders [42]", 0, "nothing is remembered"},
		{"key check orders 42", exitUnavailable, "source"}, // there is no MySQL behind this coordinator
		{"key check orders", exitUsage, "accepts 2 arg"},
		{"mapping rm orders", 0, "orders is forgotten"},
		{"mapping rm orders", 1, "mapping_not_found"},
	} {
		var out strings.Builder
		c := &cli{getenv: func(string) string { return addr }, out: &out, err: &out}
		args := append(strings.Fields(step.line), "--timeout", "1s")
		if code := c.run(args); code != step.code || !strings.Contains(out.String(), step.want) {
			t.Errorf("quiesce %s: %d, not %d with %q:\n%s", step.line, code, step.code, step.want, out.String())
		}
	}
}

// What a person reads of answers that no coordinator for tests gives.
func TestOutbox_ReadsAsAPersonWantsIt(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	writeStats(&out, api.OutboxStats{Pending: 5, Dead: 3, LagMs: 90_000, Pauses: []api.OutboxPause{{OutboxScope: api.OutboxScope{Source: "shop"}, SinceMs: 1000}},
		Mappings: []api.MappingOutbox{{Mapping: "orders", Pending: 5, Dead: 3, DeadBy: map[string]int{"wrong_type": 2, "too_large": 1}, Blocked: "target_down",
			Doubt: &api.Doubt{SinceMs: 2000, Cause: "restarted", Pass: 7}},
			{Mapping: "a", Doubt: &api.Doubt{Pass: 8, Held: true}}, {Mapping: "b", Doubt: &api.Doubt{Behind: 9}}},
		Breakers: []api.Breaker{{Name: "target:cache", State: "half_open"}}, Relays: []api.Relay{{Source: "shop", State: "paused", Relayed: 12}}})
	for _, part := range []string{"5 pending, 0 prepared, 3 dead; the oldest waits 1m30s", "relay of source shop", "3 (too_large 1, wrong_type 2)",
		"held up: target_down; in doubt for 2.0s: restarted; pass 7 is to end it", "pass 8 is to end it, and waits for an approval", "pass 9 has to end before another can begin", "half open", "paused"} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("no %q in\n%s", part, out.String())
		}
	}
	out.Reset()
	paid := "paid\x1b[2J"
	writeKeyCheck(&out, api.KeyCheck{Row: &api.KeyRow{PK: []string{"42"}, Values: map[string]*string{"status": &paid, "note": nil}},
		Keys:    []api.CachedKey{{Key: "order:42", Verdict: "stale", Want: "a", Have: "b", Type: "string", TTLMs: -1, Guard: &api.GuardView{Key: "qg:{order:42}", Token: 9, TTLMs: 1000}}},
		Pending: &api.Event{Mapping: "orders", PK: []string{"42"}, State: "pending", Blocked: "paused"}, Fixed: &api.EventToken{Token: 10}})
	for _, part := range []string{"note = NULL", `status = paid\x1b[2J`, "order:42: stale", "no expiry", "qg:{order:42}: token 9, expires in 1.0s", "pending, paused", "enqueued with token 10"} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("no %q in\n%s", part, out.String())
		}
	}
}
