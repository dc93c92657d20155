package httpapi

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/quiescehq/quiesce/api"
)

// contract is the part of the API's page that this version serves.
var contract = []string{
	"GET /healthz", "GET /readyz", "GET /metrics", "GET /openapi.json",
	"GET /v1/cluster", "DELETE /v1/cluster/nodes/{id}", "POST /v1/cluster/transfer", "GET /v1/cluster/backup", "POST /v1/cluster/restore",
	"POST /v1/sessions", "POST /v1/sessions/keepalive", "DELETE /v1/sessions/{id}", "GET /v1/sessions", "GET /v1/sessions/{id}",
	"POST /v1/batch",
	"POST /v1/locks/acquire", "POST /v1/locks/release", "POST /v1/locks/cancel", "POST /v1/locks/validate", "GET /v1/locks",
	"POST /v1/locks/downgrade", "POST /v1/locks/handoff", "POST /v1/locks/revoke", "POST /v1/locks/force-release", "GET /v1/locks/deadlocks",
	"POST /v1/elections/campaign", "POST /v1/elections/proclaim", "POST /v1/elections/resign", "GET /v1/elections", "GET /v1/elections/observe",
	"GET /v1/audit",
	"PUT /v1/services/{name}", "GET /v1/services/{name}", "DELETE /v1/services/{name}", "GET /v1/services",
	"POST /v1/instances", "POST /v1/instances/{id}/keepalive", "POST /v1/instances/{id}/ready", "POST /v1/instances/{id}/drained",
	"POST /v1/instances/{id}/left", "POST /v1/instances/{id}/drain", "POST /v1/instances/{id}/phase", "GET /v1/instances", "GET /v1/instances/{id}",
	"POST /v1/instances/{id}/pause", "POST /v1/instances/{id}/resume", "POST /v1/instances/{id}/undo",
	"POST /v1/plans", "GET /v1/plans", "GET /v1/plans/{id}", "POST /v1/plans/{id}/start", "POST /v1/plans/{id}/pause", "POST /v1/plans/{id}/resume",
	"POST /v1/plans/{id}/cancel",
	"POST /v1/cleanups", "GET /v1/cleanups", "GET /v1/cleanups/{id}", "POST /v1/cleanups/{id}/cancel",
	"GET /v1/transactions", "POST /v1/transactions/{id}/kill",
	"GET /v1/sources", "GET /v1/targets",
	"PUT /v1/mappings/{name}", "GET /v1/mappings/{name}", "DELETE /v1/mappings/{name}", "GET /v1/mappings",
	"POST /v1/outbox/events", "POST /v1/outbox/wait", "GET /v1/outbox/events", "GET /v1/outbox/dead", "GET /v1/outbox/stats",
	"POST /v1/mappings/{name}/check", "POST /v1/outbox/prepare", "POST /v1/outbox/prepared/{id}/submit", "POST /v1/outbox/prepared/{id}/cancel",
	"GET /v1/outbox/prepared", "POST /v1/outbox/pause", "POST /v1/outbox/resume", "POST /v1/outbox/nudge", "POST /v1/outbox/dead/replay",
	"POST /v1/outbox/dead/discard", "POST /v1/keys/check", "GET /v1/keys/timeline",
	"POST /v1/passes", "GET /v1/passes", "GET /v1/passes/{id}", "GET /v1/passes/{id}/differences", "POST /v1/passes/{id}/cancel",
	"POST /v1/passes/{id}/pause", "POST /v1/passes/{id}/resume", "POST /v1/passes/{id}/approve",
	"PUT /v1/mappings/{name}/schedule", "GET /v1/mappings/{name}/schedule", "DELETE /v1/mappings/{name}/schedule", "GET /v1/schedules",
}

type document struct {
	OpenAPI string
	Paths   map[string]map[string]struct {
		OperationID string
		Parameters  []struct{ Name, In string }
		RequestBody *struct {
			Content map[string]struct{ Schema json.RawMessage }
		}
		Responses map[string]struct {
			Content map[string]struct{ Schema json.RawMessage }
		}
	}
	Components struct{ Schemas map[string]json.RawMessage }
}

// TestOpenAPI_RouterDocumentAndContractAgree: what is routed, what is documented and what was promised are the same set.
func TestOpenAPI_RouterDocumentAndContractAgree(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	doc := into[document](t, e.do(get, "/openapi.json", ""))
	if doc.OpenAPI != "3.1.0" {
		t.Error(doc.OpenAPI)
	}
	var documented, routed []string
	for path, methods := range doc.Paths {
		for method := range methods {
			documented = append(documented, strings.ToUpper(method)+" "+path)
		}
	}
	param := regexp.MustCompile(`:(\w+)`)
	for _, r := range e.engine.Routes() {
		routed = append(routed, r.Method+" "+param.ReplaceAllString(r.Path, "{$1}"))
	}
	want := sorted(contract)
	if got := sorted(documented); !slices.Equal(got, want) {
		t.Errorf("documented %v\nwant %v", got, want)
	}
	if got := sorted(routed); !slices.Equal(got, want) {
		t.Errorf("routed %v\nwant %v", got, want)
	}
}

func TestOpenAPI_EveryOperationSaysWhatItTakesAndAnswers(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	doc := into[document](t, e.do(get, "/openapi.json", ""))
	ids := map[string]bool{}
	for path, methods := range doc.Paths {
		for method, op := range methods {
			what := method + " " + path
			if op.OperationID == "" || ids[op.OperationID] {
				t.Errorf("%s: operation id %q", what, op.OperationID)
			}
			ids[op.OperationID] = true
			if problem := op.Responses["default"].Content[api.ContentProblem].Schema; !strings.Contains(string(problem), "Problem") {
				t.Errorf("%s: no problem documented", what)
			}
			if _, ok := op.Responses["200"]; !ok {
				if _, ok := op.Responses["204"]; !ok {
					t.Errorf("%s: no answer documented: %v", what, slices.Collect(maps.Keys(op.Responses)))
				}
			}
			for _, p := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(path, -1) {
				if !slices.ContainsFunc(op.Parameters, func(x struct{ Name, In string }) bool { return x.In == "path" && x.Name == p[1] }) {
					t.Errorf("%s: path parameter %s is not documented", what, p[1])
				}
			}
		}
	}
	for _, op := range slices.Collect(maps.Keys(e.ops)) {
		if !ids[op] {
			t.Errorf("batch operation %s has no endpoint of its name", op)
		}
	}
	if strings.Contains(string(e.do(get, "/openapi.json", "").body), "ErrorModel") {
		t.Error("the document shows errors that are never sent")
	}
}
