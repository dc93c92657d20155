package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
)

var ordersService = api.Service{Name: "orders", Version: 3, MaxUnavailablePercent: 25, SettleMs: 10_000, RestartHoldMs: 120_000, LostHoldMs: 60_000,
	DependsOn: []string{"stock"}, Freeze: true, ReadOnly: true, Expected: 8, Available: 6, Unavailable: 2, Room: 0, Queued: 1,
	Live:    map[string]int{"ready": 6, "queued": 1, "draining": 1},
	Cleanup: &api.ServiceCleanup{Target: "cache", Patterns: []string{"orders:*", "o:*"}, DelayMs: 600_000},
	Drains:  api.DrainRecord{Grants: 41, Overdrafts: 2, Forced: 1, Lost: 1, Undone: 3, WorstMs: 18_200, MedianMs: 4_100, RestartMs: 31_000}}

var stockService = api.Service{Name: "stock", Version: 1, MinAvailable: 2, Replicas: 3, SettleMs: 10_000, RestartHoldMs: 120_000, LostHoldMs: 120_000,
	Expected: 3, Available: 3, Room: 1, Live: map[string]int{"ready": 3}}

var queuedInstance = api.Instance{ID: "i-2", Service: "orders", Name: "web-2", Incarnation: 12, Session: "s2", Address: "10.0.0.2:80",
	Labels: map[string]string{"zone": "b", "release": "42"}, Platform: "kubernetes", GraceMs: 25_000,
	Phases: []api.PhaseTime{{Phase: "lameduck", LimitMs: 3_000}, {Phase: "reject", LimitMs: 8_000}, {Phase: "flush"}}, Settled: true,
	Intent: "restart", Reason: "kernel", Plan: 7, Connections: 4, Index: 90,
	Counters: map[string]uint64{"in_flight": 3, "dirty": 41},
	History:  []api.Moment{{AgeMs: 900_000, State: "registered"}, {AgeMs: 890_000, State: "ready"}, {AgeMs: 4_000, State: "queued", Phase: "announce"}},
	InstanceStatus: api.InstanceStatus{State: "queued", Ticket: 55, Position: 2, Waiting: "budget", EarliestGrantInMs: 6_000, LatestGrantInMs: 20_000,
		Blockers: []api.Blocker{{ID: "i-1", Name: "web-1", State: "draining", Why: "draining"}, {ID: "i-9", Name: "web-9", State: "lost", Why: "lost"}}}}

var lostInstance = api.Instance{ID: "i-9", Service: "orders", Name: "web-9", Incarnation: 9, Session: "s9", GraceMs: 25_000, Phase: "flush", HoldsForMs: 59_000,
	Leftovers: 41, LocksFreed: 2, Index: 80, InstanceStatus: api.InstanceStatus{State: "lost", Overdraft: true},
	Adoption: []api.AdoptionStep{{Step: "locks", Detail: "2 freed", AgeMs: 3_000}, {Step: "keys", Detail: "41 events", AgeMs: 2_000}, {Step: "done", AgeMs: 1_500}}}

// leftAgain is the newest incarnation of a name that has more than one.
var leftAgain = api.Instance{ID: "i-3", Service: "orders", Name: "web-9", Incarnation: 14, InstanceStatus: api.InstanceStatus{State: "ready"}}

var somePlan = api.Plan{ID: 7, State: "running", Stage: "observing", Step: 1, Failures: 1, Done: 5, Total: 12, AgeMs: 700_000, RunsForMs: 610_000,
	ObserveRemainingMs: 540_000, DeadlineInMs: 3_000_000, Index: 91,
	PlanRules: api.PlanRules{Intent: "restart", Services: []string{"orders", "stock"}, CanaryPercent: 5, ObserveMs: 1_200_000, Wave: 2, HaltAfter: 2, DeadlineMs: 3_600_000, Reason: "release 42"},
	Steps: []api.PlanStep{
		{Service: "stock", State: "done", Canary: 1, Targets: []api.PlanTarget{{ID: "i-20", Name: "a", State: "done", Successor: "i-30"}, {ID: "i-21", Name: "b", State: "failed", Why: "lost in flush"}}},
		{Service: "orders", State: "running", Canary: 1, Wave: 2, Targets: []api.PlanTarget{{ID: "i-1", Name: "web-1", State: "waiting"}, {ID: "i-2", Name: "web-2", State: "queued"}, {ID: "i-3", Name: "web-3", State: "pending"}}}}}

func dryPlan() *api.Plan {
	p := somePlan
	p.ID, p.State, p.Stage, p.Steps, p.RunsForMs, p.ObserveRemainingMs, p.DeadlineInMs, p.Done, p.Failures = 0, "draft", "", nil, 0, 0, 0, 0, 0
	p.Steps = []api.PlanStep{{Service: "stock", State: "pending", Canary: 1}, {Service: "orders", State: "pending", Canary: 1, Wave: 2}}
	p.Estimate = &api.Estimate{WorstMs: 900_000, Services: []api.StepEstimate{
		{Service: "stock", Instances: 3, AtATime: 1, Rounds: 3, DrainMs: 24_000, RestartMs: 130_000, WorstMs: 462_000},
		{Service: "orders", Instances: 8, AtATime: 2, Rounds: 4, DrainMs: 18_200, RestartMs: 31_000, OnRecord: 32, WorstMs: 196_800}}}
	return &p
}

var shutdownAnswers = map[string]any{
	"GET /v1/services":                            api.Services{Services: []api.Service{ordersService, stockService}},
	"GET /v1/services/orders":                     ordersService,
	"GET /v1/services/stock":                      stockService,
	"PUT /v1/services/orders":                     api.ServiceVersion{Name: "orders", Version: 4},
	"PUT /v1/services/stock":                      api.ServiceVersion{Name: "stock", Version: 2},
	"DELETE /v1/services/stock":                   api.Problem{Code: api.CodeServiceInUse, Detail: "stock has 3 live instances"},
	"DELETE /v1/services/orders":                  nil,
	"GET /v1/services/nobody":                     api.Problem{Code: api.CodeServiceNotFound, Detail: "there is no service nobody"},
	"PUT /v1/services/nobody":                     api.ServiceVersion{Name: "nobody", Version: 1},
	"GET /v1/instances":                           api.Instances{Instances: []api.Instance{queuedInstance, lostInstance}},
	"GET /v1/instances?state=ready":               api.Instances{Instances: []api.Instance{leftAgain}},
	"GET /v1/instances?limit=1000&service=orders": api.Instances{Instances: []api.Instance{queuedInstance, leftAgain, lostInstance}},
	"GET /v1/instances/i-2":                       queuedInstance,
	"GET /v1/instances/i-3":                       leftAgain,
	"GET /v1/instances/i-9":                       lostInstance,
	"POST /v1/instances/i-2/drain":                queuedInstance.InstanceStatus,
	"POST /v1/instances/i-9/drain":                api.Problem{Code: api.CodeInstanceState, Detail: "i-9 was lost"},
	"POST /v1/instances/i-3/pause":                api.Problem{Code: api.CodeBudgetExhausted, Detail: "web-1 is draining"},
	"POST /v1/instances/i-2/undo":                 api.InstanceStatus{State: "ready"},
	"POST /v1/instances/i-3/resume":               api.InstanceStatus{State: "ready"},
	"GET /v1/plans":                               api.Plans{Plans: []api.Plan{somePlan}},
	"GET /v1/plans/7":                             somePlan,
	"POST /v1/plans/7/pause":                      nil,
	"POST /v1/plans/7/cancel":                     api.Problem{Code: api.CodePlanState, Detail: "plan 7 has ended"},
	"POST /v1/plans":                              api.PlanStatus{ID: 7, State: "draft", Plan: dryPlan()},
	"POST /v1/cleanups":                           api.CleanupID{ID: 3},
	"GET /v1/cleanups": api.Cleanups{Cleanups: []api.Cleanup{
		{ID: 3, Target: "cache", Patterns: []string{"orders:*"}, State: "waiting", DueInMs: 60_000, Service: "orders", AgeMs: 1_000},
		{ID: 2, Target: "cache", Patterns: []string{"o:*"}, State: "stopped", Why: "orders registered", DryRun: true, Scanned: 9_000, Matched: 41, AgeMs: 90_000}}},
	"GET /v1/cleanups/2":         api.Cleanup{ID: 2, Target: "cache", Patterns: []string{"o:*"}, State: "done", Reason: "gone", Scanned: 9_000, Matched: 41, Removed: 41, Samples: []string{"o:1", "o:\x1b2"}},
	"POST /v1/cleanups/2/cancel": nil,
	"GET /v1/transactions": api.Transactions{Transactions: []api.Transaction{
		{ID: "main.77.4021", Source: "main", State: "RUNNING", Command: "Sleep", User: "orders", Host: "10.0.0.9", AgeMs: 125_000, RowsModified: 3, RowsLocked: 9,
			Instance: "i-9", InstanceName: "orders/web-9", Verdict: "is to end: its instance was lost", StartedAt: time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)},
		{ID: "main.78.4022", Source: "main", State: "ROLLING BACK", Killed: true, AgeMs: 200_000, Statement: "UPDATE t SET a = ?", Verdict: "killed"}},
		Sources: []api.TransactionSource{{Source: "main", ThresholdMs: 60_000, Policy: "owned", Reachable: true, Missing: []string{"CONNECTION_ADMIN"}, Killed: 1, SeenAgeMs: 300},
			{Source: "spare", ThresholdMs: 60_000, Policy: "never", Detail: "connection refused"}}},
	"POST /v1/transactions/main.77.4021/kill": api.KillVerdict{Killed: true},
	"POST /v1/transactions/main.78.4022/kill": api.KillVerdict{Detail: "it is over"},
}

func TestShutdown_ReadsAsAPersonOrAProgramWantsIt(t *testing.T) {
	t.Parallel()
	for name, lines := range map[string][]string{
		"services": {"services", "services orders", "services nobody", "service set orders --max-unavailable 3", "service set orders --min-available 50% --settle 0s --depends-on= --read-only=false",
			"service set nobody --min-available 2", "service set orders --no-cleanup", "service set stock --cleanup-target cache --cleanup-pattern stock:*", "service set orders --cleanup-delay 1m",
			"service set orders", "service set orders --max-unavailable 0", "service set orders --max-unavailable 101%", "service set orders --max-unavailable 1 --min-available 1",
			"service freeze stock", "service unfreeze orders", "service read-only stock on", "service read-only stock maybe", "service rm stock", "service rm orders", "service freeze nobody"},
		"instances": {"instances", "instances --state ready -o json", "instance i-2", "instance orders/web-9", "instance i-9", "instance orders/none",
			"drain i-2 --reason kernel", "drain orders/web-2 --intent remove -o json", "drain i-9", "drain i-2 --wait=gone", "drain i-2 --within 5s", "pause i-3 --force --reason look", "undo i-2", "resume orders/web-9"},
		"plans": {"plan ls", "plan show 7", "plan show seven", "plan pause 7 --reason lunch", "plan cancel 7 --failed", "plan new",
			"plan new --service orders,stock --canary 5% --observe 20m --wave 2 --halt-after 2 --deadline 1h --dry-run", "plan new --intent shutdown --service orders --allow-zero --reason over",
			"plan new --service orders --start", "plan new --service orders --canary 0", "plan new --service orders --check true", "plan watch 7 --check-every 1ms"},
		"cleanups":     {"cleanup new --target cache", "cleanup new --target cache --pattern orders:* --delay 1m --dry-run", "cleanup ls", "cleanup show 2", "cleanup cancel 2", "cleanup cancel 0"},
		"transactions": {"transactions", "transactions -o yaml", "transactions kill main.77.4021", "transactions kill main.77.4021 --reason stuck", "transactions kill main.78.4022 --reason stuck", "transactions kil"},
	} {
		s := newServer(t, shutdownAnswers)
		var got strings.Builder
		for _, line := range lines {
			text, code := s.quiesce(strings.Fields(line)...)
			fmt.Fprintf(&got, "$ quiesce %s\n%s[%d]\n\n", line, text, code)
		}
		golden(t, name, strings.ReplaceAll(got.String(), s.URL, "http://node"))
	}
}
