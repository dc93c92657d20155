package main

import (
	"strings"
	"testing"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client/quiescetest"
)

// The commands and the API mean the same: what is sent is taken, what is answered is read.
func TestShutdown_CommandsAreThoseOfTheAPI(t *testing.T) {
	t.Parallel()
	_, addr := quiescetest.Start(t)
	for _, step := range []struct {
		line string
		code int
		want string
	}{
		{"service set orders --max-unavailable 50% --replicas 4 --settle 0s --restart-hold 30s --lost-hold 10s", 0, "max unavailable 50% of 4 replicas"},
		{"service set stock --min-available 1", 0, "min available 1"},
		{"service set orders --depends-on stock --cleanup-target cache --cleanup-pattern orders:* --cleanup-delay 1m", exitUsage, "place_unknown"}, // no node here has any
		{"service set orders --depends-on stock", 0, "depends on  stock"},
		{"service set orders --depends-on= --no-cleanup", 0, "max unavailable 50% of 4 replicas"},
		{"service set orders --min-available 25%", 0, "min available 25% of 4 replicas"},
		{"service read-only orders on", 0, "read-only"},
		{"service freeze orders", 0, "frozen, read-only"},
		{"service unfreeze orders", 0, "switches    read-only"},
		{"services", 0, "min available 25%"},
		{"service set stock --depends-on stock", 1, "dependency_cycle"},
		{"service set Orders --replicas 1", exitUsage, "(invalid)"},
		{"instances --service orders --state ready", 0, "INSTANCE"},
		{"instances --state dozing", exitUsage, ""},
		{"instance i-none", 1, "instance_not_found"},
		{"drain i-none", 1, "instance_not_found"},
		{"plan new --service orders --service stock --canary 5% --observe 10s --wave 2 --deadline 1h --dry-run", 0, "at worst"},
		{"plan new --service orders --canary 1 --pause-after-canary --reason why", 0, "it is a draft; quiesce plan start"},
		{"plan new --intent shutdown --service stock", 1, "zero_not_allowed"},
		{"plan new --intent shutdown --service stock --allow-zero --watch", 0, "is succeeded, 0 of 0 done"},
		{"plan new --service nobody --start", 1, "service_not_found"},
		{"plan ls", 0, "draft"},
		{"plan pause 999999", 1, "plan_not_found"},
		{"service rm stock", 0, "stock is forgotten"},
		{"service rm stock", 1, "service_not_found"},
	} {
		var out strings.Builder
		c := &cli{getenv: func(string) string { return addr }, out: &out, err: &out}
		if code := c.run(strings.Fields(step.line)); code != step.code || !strings.Contains(out.String(), step.want) {
			t.Errorf("quiesce %s: %d, not %d with %q:\n%s", step.line, code, step.code, step.want, out.String())
		}
	}
}

func TestPlan_OperatorsHoldItAndEndIt(t *testing.T) {
	t.Parallel()
	coordinator, addr := impatient(t)
	r := startRun(t, coordinator, addr, serveScript)
	r.awaitState(api.StateReady)
	r.operate(0, "service", "freeze", "orders")
	plan := r.operate(0, "plan", "new", "--service", "orders", "--wave", "1", "--start", "-o", "json")
	_, id, _ := strings.Cut(plan, `"id": `)
	id, _, _ = strings.Cut(id, ",")
	r.awaitState(api.StateQueued)
	r.operate(0, "plan", "pause", id, "--reason", "lunch")
	r.awaitState(api.StateReady)
	r.operate(0, "plan", "resume", id)
	r.awaitState(api.StateQueued)
	r.operate(0, "plan", "cancel", id, "--failed", "--reason", "enough")
	r.awaitState(api.StateReady)
	if out := r.operate(exitFailed, "plan", "watch", id); !strings.Contains(out, "enough") {
		t.Error(out)
	}
	if r.ended() {
		t.Error("the command ended")
	}
}
