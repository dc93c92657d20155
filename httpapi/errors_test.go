package httpapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

// TestErrors_EveryCodeIsReachableWithItsStatus makes the edge answer every code of the table, and finds the table's status on the wire.
func TestErrors_EveryCodeIsReachableWithItsStatus(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	reached := map[api.Code]bool{}
	see := func(r reply) {
		p := r.problem(t)
		reached[p.Code] = true
		if want := api.Meanings[p.Code].Status; want != r.status {
			t.Errorf("%s: status %d, the table says %d", p.Code, r.status, want)
		}
		if p.RetryAfterMs > 0 && r.header.Get(api.HeaderRetryAfter) == "" {
			t.Errorf("%s: retry_after_ms without Retry-After", p.Code)
		}
	}
	open := `{"ttl_ms":5000}`

	see(e.do(post, "/v1/sessions", `{"ttl_ms":`))
	see(e.do(post, "/v1/sessions", `{"ttl_ms":5}`))
	see(e.do(get, "/v2/sessions", ""))
	see(e.do(put, "/v1/sessions", open))
	see(e.do(post, "/v1/sessions", open, "Content-Type", "text/plain"))
	see(e.do(post, "/v1/sessions", strings.Repeat(" ", api.BodyBytesMax+1)))
	see(e.do(get, "/v1/locks?prefix="+strings.Repeat("x", api.URIBytesMax), ""))
	see(e.do(get, "/v1/locks", "", "X-Pad", strings.Repeat("x", api.HeaderBytesMax)))
	see(e.do(put, "/v1/mappings/m", `{}`))
	see(e.do(put, "/v1/mappings/m", `{"table":"t","target":"gone"}`))
	e.do(put, "/v1/mappings/m", `{"table":"t"}`)
	see(e.do(post, "/v1/outbox/events", `{"events":[{"mapping":"m","pk":["a"]}]}`))
	see(e.do(get, "/v1/locks?index=1000000", ""))
	see(e.do(post, "/v1/instances/x/keepalive", `{"incarnation":1}`))

	session := e.session()
	e.do(post, "/v1/locks/acquire", e.acquireBody(session, "l", 0))
	see(e.do(post, "/v1/batch", `{"ops":[]}`))
	ticket := into[api.BatchAnswer](t, e.do(post, "/v1/batch", fmt.Sprintf(`{"ops":[{"op":"locks.acquire","body":%s}]}`, e.acquireBody(e.session(), "l", 1000))))
	var waiting api.Acquired
	if err := json.Unmarshal(ticket.Results[0].Body, &waiting); err != nil {
		t.Fatal(err)
	}
	e.rep.advance(2_000)
	see(e.do(post, "/v1/locks/acquire", fmt.Sprintf(`{"ticket":%d}`, waiting.Ticket)))

	e.mappings.down.Store(true)
	see(e.do(put, "/v1/mappings/m", `{"table":"t"}`))
	for _, err := range []error{ErrNotApplied, ErrNoLeader, errors.New("something else")} {
		e.rep.fail(err)
		see(e.do(post, "/v1/sessions", open))
	}
	e.rep.fail(nil)
	for _, code := range []string{"node_not_found", "change_running", "transfer_failed",
		"backup_damaged", "backup_newer", "tokens_exhausted", "restore_running", "several_nodes_stopping"} { // the last is not in the table
		e.rep.removed = &RefusedError{Code: code, Detail: "no"}
		see(e.do(remove, "/v1/cluster/nodes/n9", ""))
	}

	for _, code := range refusals {
		e.rep.forced.Store(&fsm.Result{Code: code, Index: 5})
		see(e.do(post, "/v1/sessions", open))
	}
	e.rep.forced.Store(nil)
	e.streams.Store(streamsMax)
	see(e.do(get, "/v1/elections/observe?name=e", ""))
	see(e.do(post, "/v1/transactions/main.1.2/kill", `{"reason":"r"}`))
	e.SetReady(false, "not a voter")
	see(e.do(get, "/readyz", ""))
	_ = e.Drain(t.Context())
	see(e.do(get, "/readyz", ""))
	e.rep.forced.Store(&fsm.Result{}) // applied, with no answer in it: handlers must be able to rely on one
	see(e.do(post, "/v1/sessions", open))

	for code := range api.Meanings {
		if !reached[code] {
			t.Errorf("%s was never answered", code)
		}
	}
}

// refusals are the codes of the state that a client can meet.
var refusals = []fsm.Code{
	fsm.CodeSessionNotFound, fsm.CodeSessionExists, fsm.CodeLockHeld, fsm.CodeNotHolder, fsm.CodeTicketNotFound, fsm.CodeTicketEnded,
	fsm.CodeLimitMismatch, fsm.CodeReentrancyLimit, fsm.CodeNoSuccessor,
	fsm.CodeKeyReused, fsm.CodeKeyAcknowledged, fsm.CodeKeysOutstanding, fsm.CodeSessionsFull, fsm.CodeLocksFull, fsm.CodeTicketsFull, fsm.CodeInvalid,
	fsm.CodeVersionMismatch, fsm.CodeServiceNotFound, fsm.CodeServiceInUse, fsm.CodeServicesFull, fsm.CodeInstanceNotFound,
	fsm.CodeInstancesFull, fsm.CodeStaleIncarnation, fsm.CodeInstanceState, fsm.CodeMappingNotFound, fsm.CodeMappingInUse, fsm.CodePreparedNotFound, fsm.CodePausesFull,
	fsm.CodeMappingsFull, fsm.CodePlaceUnknown, fsm.CodeOutboxFull, fsm.CodePassNotFound, fsm.CodePassRunning, fsm.CodePassEnded,
	fsm.CodePassHeld, fsm.CodePassNotHeld, fsm.CodeScheduleNotFound,
	fsm.CodeBudgetExhausted, fsm.CodeNotUndoable, fsm.CodeDependencyCycle, fsm.CodePlanNotFound, fsm.CodePlanState, fsm.CodePlanRunning,
	fsm.CodePlansFull, fsm.CodeZeroNotAllowed, fsm.CodeCleanupNotFound, fsm.CodeCleanupEnded, fsm.CodeCleanupsFull, fsm.CodePatternInUse,
}

// TestErrors_NoRefusalOfTheStateIsABug: each code that the state can answer to a client is in the table.
func TestErrors_NoRefusalOfTheStateIsABug(t *testing.T) {
	t.Parallel()
	for _, code := range refusals {
		if _, ok := api.Meanings[api.Code(code)]; !ok {
			t.Errorf("%s is not in the table", code)
		}
	}
}

func TestErrors_BodiesSayWhatIsWrong(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	for _, name := range []string{"m", "owner", "blind"} {
		e.do(put, "/v1/mappings/"+name, `{"table":"t"}`)
	}
	for _, c := range []struct {
		what, method, path, body string
		status                   int
		code                     api.Code
		field                    string
	}{
		{"unknown field", post, "/v1/sessions", `{"ttl_ms":5000,"color":"red"}`, 422, api.CodeInvalid, "body.color"},
		{"wrong type", post, "/v1/sessions", `{"ttl_ms":"5000"}`, 422, api.CodeInvalid, "body.ttl_ms"},
		{"missing field", post, "/v1/sessions", `{}`, 422, api.CodeInvalid, "body"},
		{"fraction", post, "/v1/sessions", `{"ttl_ms":5000.5}`, 422, api.CodeInvalid, "body.ttl_ms"},
		{"no body", post, "/v1/sessions", ``, 400, api.CodeMalformed, ""},
		{"two values", post, "/v1/sessions", `{"ttl_ms":5000}{}`, 400, api.CodeMalformed, "body"},
		{"unknown query", get, "/v1/locks?color=red", ``, 422, api.CodeInvalid, "query.color"},
		{"bad limit", get, "/v1/locks?limit=many", ``, 422, api.CodeInvalid, "query.limit"},
		{"bad cursor", get, "/v1/locks?cursor=!!", ``, 422, api.CodeInvalid, "query.cursor"},
		{"cursor of another collection", get, "/v1/locks?cursor=c2VydmljZXMubGlzdABh", ``, 422, api.CodeInvalid, "query.cursor"},
		{"bad consistency", get, "/v1/locks?consistency=maybe", ``, 422, api.CodeInvalid, "query.consistency"},
		{"bad service name", put, "/v1/services/Orders", `{"max_unavailable":1}`, 422, api.CodeInvalid, "path.name"},
		{"the same lock twice", post, "/v1/locks/acquire", `{"session":"s","locks":[{"name":"a"},{"name":"a"}]}`, 422, api.CodeInvalid, "body.locks"},
		{"no locks", post, "/v1/locks/acquire", `{"session":"s","locks":[]}`, 422, api.CodeInvalid, "body.locks"},
		{"too many locks", post, "/v1/locks/acquire", `{"session":"s","locks":[` + strings.Repeat(`{"name":"a"},`, api.LocksMax) + `{"name":"b"}]}`, 422, api.CodeInvalid, "body.locks"},
		{"unknown mode", post, "/v1/locks/acquire", `{"session":"s","locks":[{"name":"a","mode":"both"}]}`, 422, api.CodeInvalid, "body.locks[0].mode"},
		{"permits of a shared lock", post, "/v1/locks/acquire", `{"session":"s","locks":[{"name":"a","mode":"shared","permits":1}]}`, 422, api.CodeInvalid, "body.locks[0]"},
		{"permits without a limit", post, "/v1/locks/acquire", `{"session":"s","locks":[{"name":"a","mode":"permits","permits":1}]}`, 422, api.CodeInvalid, "body.locks[0].limit"},
		{"more permits than there are", post, "/v1/locks/acquire", `{"session":"s","locks":[{"name":"a","mode":"permits","permits":3,"limit":2}]}`, 422, api.CodeInvalid, "body.locks[0].permits"},
		{"control character in an owner", post, "/v1/locks/acquire", `{"session":"s","owner":"a\u0000","locks":[{"name":"a"}]}`, 422, api.CodeInvalid, "body.owner"},
		{"value in bytes", post, "/v1/elections/campaign", `{"session":"s","name":"e","value":"` + strings.Repeat("é", api.ValueBytesMax/2+1) + `"}`, 422, api.CodeInvalid, "body.value"},
		{"candidacy without a name", post, "/v1/elections/campaign", `{"session":"s"}`, 422, api.CodeInvalid, "body.locks"},
		{"force without a reason", post, "/v1/locks/force-release", `{"name":"a"}`, 422, api.CodeInvalid, "body"},
		{"election without a name", get, "/v1/elections", ``, 422, api.CodeInvalid, "query.name"},
		{"observer without a name", get, "/v1/elections/observe", ``, 422, api.CodeInvalid, "query.name"},
		{"control character", post, "/v1/locks/acquire", `{"session":"s","locks":[{"name":"a\n"}]}`, 422, api.CodeInvalid, "body.locks[0].name"},
		{"no session", post, "/v1/locks/acquire", `{"locks":[{"name":"a"}]}`, 422, api.CodeInvalid, "body.session"},
		{"ticket and more", post, "/v1/locks/acquire", `{"ticket":1,"session":"s"}`, 422, api.CodeInvalid, "body.ticket"},
		{"mapping", put, "/v1/mappings/m", `{"color":1}`, 422, api.CodeMappingInvalid, "table"},
		{"pass id", post, "/v1/passes/x/cancel", ``, 422, api.CodeInvalid, "path.id"},
		{"pass id of an approval", post, "/v1/passes/x/approve", `{}`, 422, api.CodeInvalid, "path.id"},
		{"unknown mode of a pass", post, "/v1/passes", `{"mapping":"m","mode":"repair"}`, 422, api.CodeInvalid, "body.mode"},
		{"pass over an unknown mapping", post, "/v1/passes", `{"mapping":"none"}`, 404, api.CodeMappingNotFound, ""},
		{"sample too small", post, "/v1/passes", `{"mapping":"m","sample":0.0000001}`, 422, api.CodeInvalid, "body.sample"},
		{"sample of more than all", post, "/v1/passes", `{"mapping":"m","sample":1.01}`, 422, api.CodeInvalid, "body.sample"},
		{"fill without rewrite", post, "/v1/passes", `{"mapping":"m","fill_missing":true}`, 422, api.CodeInvalid, "body.fill_missing"},
		{"extras of a range", post, "/v1/passes", `{"mapping":"owner","extras":true,"range":{"from":[1]}}`, 422, api.CodeInvalid, "body.extras"},
		{"extras of a sample", post, "/v1/passes", `{"mapping":"owner","extras":true,"sample":0.5}`, 422, api.CodeInvalid, "body.extras"},
		{"extras of a prefix that is shared", post, "/v1/passes", `{"mapping":"m","extras":true}`, 422, api.CodeInvalid, "body.extras"},
		{"nothing to compare", post, "/v1/passes", `{"mapping":"blind"}`, 422, api.CodeInvalid, "body.mode"},
		{"range without ends", post, "/v1/passes", `{"mapping":"m","range":{}}`, 422, api.CodeInvalid, "body.range"},
		{"range of nothing", post, "/v1/passes", `{"mapping":"m","range":{"from":[7],"to":["7"]}}`, 422, api.CodeInvalid, "body.range"},
		{"end of a range", post, "/v1/passes", `{"mapping":"m","range":{"to":["x"]}}`, 422, api.CodeInvalid, "body.range.to"},
		{"cron that names nothing", put, "/v1/mappings/m/schedule", `{"cron":"0 0 31 2 *"}`, 422, api.CodeInvalid, "body.cron"},
		{"cron of six fields", put, "/v1/mappings/m/schedule", `{"cron":"0 0 0 * * *"}`, 422, api.CodeInvalid, "body.cron"},
		{"unknown zone", put, "/v1/mappings/m/schedule", `{"cron":"@daily","zone":"Mars/Olympus"}`, 422, api.CodeInvalid, "body.zone"},
		{"window of no time", put, "/v1/mappings/m/schedule", `{"cron":"@daily","window":{"from":"02:00","to":"02:00"}}`, 422, api.CodeInvalid, "body.window"},
		{"window that is no time of the day", put, "/v1/mappings/m/schedule", `{"cron":"@daily","window":{"from":"25:00","to":"26:00"}}`, 422, api.CodeInvalid, "body.window.from"},
		{"window without a slot", put, "/v1/mappings/m/schedule", `{"cron":"0 12 * * *","window":{"from":"02:00","to":"04:00"}}`, 422, api.CodeInvalid, "body"},
		{"options of a schedule", put, "/v1/mappings/m/schedule", `{"cron":"@daily","fill_missing":true}`, 422, api.CodeInvalid, "body.fill_missing"},
		{"schedule of nothing", put, "/v1/mappings/none/schedule", `{"cron":"@daily"}`, 404, api.CodeMappingNotFound, ""},
		{"no schedule", get, "/v1/mappings/m/schedule", ``, 404, api.CodeScheduleNotFound, ""},
		{"more than all as a cap", post, "/v1/passes", `{"mapping":"m","cap_percent":101}`, 422, api.CodeInvalid, "body.cap_percent"},
		{"method", remove, "/v1/locks/acquire", ``, 405, api.CodeMethodNotAllowed, ""},
		{"path", get, "/v1/nothing", ``, 404, api.CodeNotFound, ""},
		{"two budgets", put, "/v1/services/orders", `{"max_unavailable":1,"min_available":1}`, 422, api.CodeInvalid, "body"},
		{"cleanup of everything", put, "/v1/services/orders", `{"cleanup":{"target":"main","patterns":["*"]}}`, 422, api.CodeInvalid, "body.cleanup.patterns"},
		{"cleanup of almost everything", post, "/v1/cleanups", `{"target":"main","patterns":["o*"]}`, 422, api.CodeInvalid, "body.patterns"},
		{"cleanup of an unknown target", post, "/v1/cleanups", `{"target":"other","patterns":["order:*"]}`, 422, api.CodePlaceUnknown, ""},
		{"grace too short", post, "/v1/instances", `{"service":"orders","name":"a","lease_ttl_ms":9000,"grace_ms":2000}`, 422, api.CodeInvalid, "body.grace_ms"},
		{"phases too long", post, "/v1/instances", `{"service":"orders","name":"a","lease_ttl_ms":9000,"grace_ms":4000,"phases":[{"phase":"reject","limit_ms":4001}]}`, 422, api.CodeInvalid, "body.phases"},
		{"phase twice", post, "/v1/instances", `{"service":"orders","name":"a","lease_ttl_ms":9000,"phases":[{"phase":"reject","limit_ms":1},{"phase":"reject","limit_ms":1}]}`, 422, api.CodeInvalid, "body.phases"},
		{"unknown intent", post, "/v1/plans", `{"intent":"rest","services":["orders"]}`, 422, api.CodeInvalid, "body.intent"},
		{"canary twice", post, "/v1/plans", `{"intent":"restart","services":["orders"],"canary":1,"canary_percent":5}`, 422, api.CodeInvalid, "body.canary"},
		{"plan id", post, "/v1/plans/x/start", `{}`, 422, api.CodeInvalid, "path.id"},
		{"kill without a reason", post, "/v1/transactions/a.1.2/kill", `{}`, 422, api.CodeInvalid, "body"},
	} {
		t.Run(c.what, func(t *testing.T) {
			r := e.do(c.method, c.path, c.body)
			p := r.problem(t)
			if r.status != c.status || p.Code != c.code {
				t.Fatalf("%d %s, want %d %s: %s", r.status, p.Code, c.status, c.code, r.body)
			}
			if c.field != "" && (len(p.Faults) == 0 || p.Faults[0].Field != c.field) {
				t.Fatalf("faults %v, want %s", p.Faults, c.field)
			}
			if c.status == 405 && r.header.Get("Allow") == "" {
				t.Fatal("no Allow")
			}
		})
	}
}

func TestErrors_PanicAnswersAnIDAndKeepsTheServer(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	e.rep.forced.Store(&fsm.Result{}) // the answer of an open session lacks its session
	r := e.do(post, "/v1/sessions", `{"ttl_ms":5000}`)
	if p := r.problem(t); r.status != http.StatusInternalServerError || p.Code != api.CodeInternal || len(p.ID) != 32 {
		t.Fatalf("%d %+v", r.status, p)
	}
	e.rep.forced.Store(nil)
	e.session()
	if n := e.inFlight.Load(); n != 0 {
		t.Fatalf("%d requests still counted", n)
	}
}

// TestErrors_UnprovenReadsAreSafeToSendAgain: a read never has an unknown outcome.
func TestErrors_UnprovenReadsAreSafeToSendAgain(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	e.rep.fail(errors.New("whatever"))
	if p := e.do(get, "/v1/locks", "").problem(t); p.Code != api.CodeNotApplied {
		t.Fatal(p)
	}
	if r := e.do(get, "/v1/locks?consistency=stale", ""); r.status != http.StatusOK {
		t.Fatalf("%d %s", r.status, r.body)
	}
}
