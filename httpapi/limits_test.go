package httpapi

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/replica"
)

// TestLimits_HoldAtNAndRefuseAtNPlusOne sends each bounded thing at its bound and one beyond.
func TestLimits_HoldAtNAndRefuseAtNPlusOne(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	session := e.session()
	e.do(put, "/v1/mappings/m", `{"table":"t"}`)
	x := func(n int) string { return strings.Repeat("x", n) }
	list := func(n int, item func(i int) string) string {
		out := make([]string, n)
		for i := range out {
			out[i] = item(i)
		}
		return strings.Join(out, ",")
	}
	spec := func(n int) string {
		frame := `{"table":""}`
		return `{"table":"` + x(n-len(frame)) + `"}`
	}
	padded := func(n int) string { b := `{"ttl_ms":5000}`; return b + strings.Repeat(" ", n-len(b)) }
	for _, c := range []struct {
		what         string
		n            int
		method, path string
		body         func(n int) string
	}{
		{"body", api.BodyBytesMax, post, "/v1/sessions", padded},
		{"session name", api.NameBytesMax, post, "/v1/sessions", func(n int) string { return `{"ttl_ms":5000,"name":"` + x(n) + `"}` }},
		{"ttl", api.SessionTTLMaxMs, post, "/v1/sessions", func(n int) string { return fmt.Sprintf(`{"ttl_ms":%d}`, n) }},
		{"lock name", api.NameBytesMax, post, "/v1/locks/validate", func(n int) string { return `{"token":1,"name":"` + x(n) + `"}` }},
		{"wait", api.WaitMaxMs, post, "/v1/locks/acquire", func(n int) string { return e.acquireBody(session, "free"+strconv.Itoa(n), n) }},
		{"keepalive ids", api.KeepaliveIDsMax, post, "/v1/sessions/keepalive", func(n int) string {
			return `{"ids":[` + list(n, func(int) string { return `"` + session + `"` }) + `]}`
		}},
		{"batch", api.BatchOpsMax, post, "/v1/batch", func(n int) string {
			return `{"ops":[` + list(n, func(int) string { return `{"op":"sessions.open","body":{"ttl_ms":1000}}` }) + `]}`
		}},
		{"events", api.EventsMax, post, "/v1/outbox/events", func(n int) string {
			return `{"events":[` + list(n, func(i int) string { return fmt.Sprintf(`{"mapping":"m","pk":[%d]}`, i) }) + `]}`
		}},
		{"instance name", api.NameBytesMax, post, "/v1/instances", func(n int) string {
			return `{"service":"a","lease_ttl_ms":1000,"name":"` + x(n) + `"}`
		}},
		{"service name", api.SlugBytesMax, post, "/v1/instances", func(n int) string {
			return `{"name":"a","lease_ttl_ms":1000,"service":"` + x(n) + `"}`
		}},
		{"address", api.AddressBytesMax, post, "/v1/instances", func(n int) string {
			return `{"service":"a","name":"a","lease_ttl_ms":1000,"address":"` + x(n) + `"}`
		}},
		{"specification", api.SpecBytesMax, put, "/v1/mappings/n", spec},
		{"confirm delay", api.WaitMaxMs, post, "/v1/passes", e.passBody("confirm_delay_ms")},
		{"cap", api.TokenMax, post, "/v1/passes", e.passBody("cap")},
		{"cap percent", 100, post, "/v1/passes", e.passBody("cap_percent")},
		{"rate", api.TokenMax, post, "/v1/passes", e.passBody("rate")},
		{"sample", 1, post, "/v1/passes", e.passBody("sample")},
	} {
		t.Run(c.what, func(t *testing.T) {
			if r := e.do(c.method, c.path, c.body(c.n)); r.status != 200 {
				t.Fatalf("at %d: %d %s", c.n, r.status, r.body)
			}
			r := e.do(c.method, c.path, c.body(c.n+1))
			if r.status != 422 && r.status != 413 {
				t.Fatalf("at %d: %d %s", c.n+1, r.status, r.body)
			}
			r.problem(t)
		})
	}
	t.Run("names are counted in bytes", func(t *testing.T) {
		if r := e.do(post, "/v1/locks/validate", `{"token":1,"name":"`+strings.Repeat("ü", 129)+`"}`); r.status != 422 {
			t.Fatal(r.status)
		}
	})
}

func TestLimits_OfHeadersAndQueries(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	x := func(n int) string { return strings.Repeat("x", n) }
	uri := func(n int) string { p := "/v1/nothing?"; return p + x(n-len(p)) }
	if r := e.do(get, uri(api.URIBytesMax), ""); r.status != 404 {
		t.Error(r.status)
	}
	if r := e.do(get, uri(api.URIBytesMax+1), ""); r.status != 414 {
		t.Error(r.status)
	}
	if r := e.do(get, "/healthz", "", "X", x(api.HeaderBytesMax-1)); r.status != 200 {
		t.Error(r.status)
	}
	if r := e.do(get, "/healthz", "", "X", x(api.HeaderBytesMax)); r.status != 431 {
		t.Error(r.status)
	}
	for key, ok := range map[string]bool{
		x(api.IdempotencyKeyMax):             true,
		x(api.IdempotencyKeyMax + 1):         false,
		x(api.IdempotencyClients) + "/1":     true,
		x(api.IdempotencyClients+1) + "/1":   false,
		x(api.IdempotencyClients+1) + "/one": true, // free form
		"with space":                         false,
	} {
		if r := e.do(post, "/v1/sessions", `{"ttl_ms":5000}`, api.HeaderIdempotencyKey, key); (r.status == 200) != ok {
			t.Errorf("key of %d bytes %.20q: %d %s", len(key), key, r.status, r.body)
		}
	}
	for query, ok := range map[string]bool{"limit=1000": true, "limit=1001": false, "limit=0": false, "wait_ms=60001": false} {
		if r := e.do(get, "/v1/locks?"+query, ""); (r.status == 200) != ok {
			t.Errorf("%s: %d", query, r.status)
		}
	}
}

// TestLimits_EdgeAndStateAgree: what the edge lets through the state must be able to hold, or the client hears two different bounds.
func TestLimits_EdgeAndStateAgree(t *testing.T) {
	t.Parallel()
	for what, pair := range map[string][2]int{
		"name": {api.NameBytesMax, fsm.NameBytesMax}, "id": {api.IDBytesMax, fsm.IDBytesMax}, "ttl min": {api.SessionTTLMinMs, fsm.SessionTTLMinMs},
		"ttl max": {api.SessionTTLMaxMs, fsm.SessionTTLMaxMs}, "wait": {api.WaitMaxMs, fsm.WaitMaxMs}, "events, which may name two rows each": {2 * api.EventsMax, fsm.EventsBatchMax},
		"pk": {api.PKBytesMax, fsm.PKBytesMax}, "key": {api.IdempotencyKeyMax, fsm.KeyBytesMax}, "reason": {api.ReasonBytesMax, fsm.ReasonBytesMax},
		"address": {api.AddressBytesMax, fsm.AddressBytesMax}, "counters": {api.CountersMax, fsm.CountersMax}, "spec": {api.SpecBytesMax, fsm.SpecBytesMax},
		"token": {api.TokenMax, fsm.TokenMax},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: edge %d, state %d", what, pair[0], pair[1])
		}
	}
	if replica.ProposeOpsMax < api.BatchOpsMax {
		t.Errorf("a batch of %d does not fit one proposal", api.BatchOpsMax)
	}
	phases, _ := reflect.TypeFor[api.ReportPhase]().FieldByName("Phase")
	if got, want := phases.Tag.Get("enum"), strings.Join(fsm.Phases[:], ","); got != want {
		t.Errorf("phases %s, want %s", got, want)
	}
}

// TestLimits_TagsRepeatTheConstants: struct tags cannot name constants.
func TestLimits_TagsRepeatTheConstants(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		of         any
		field, tag string
		want       int
	}{
		{api.OpenSession{}, "Name", "maxLength", api.NameBytesMax},
		{api.OpenSession{}, "TTLMs", "minimum", api.SessionTTLMinMs},
		{api.OpenSession{}, "TTLMs", "maximum", api.SessionTTLMaxMs},
		{api.KeepaliveSessions{}, "IDs", "maxItems", api.KeepaliveIDsMax},
		{api.AcquireLocks{}, "WaitMs", "maximum", api.WaitMaxMs},
		{api.AcquireLocks{}, "ClaimMs", "maximum", api.WaitMaxMs},
		{api.AcquireLocks{}, "Ticket", "maximum", api.TokenMax},
		{api.AcquireLocks{}, "Session", "maxLength", api.IDBytesMax},
		{api.LockWanted{}, "Name", "maxLength", api.NameBytesMax},
		{api.RegisterInstance{}, "LeaseTTLMs", "maximum", api.SessionTTLMaxMs},
		{api.RegisterInstance{}, "Address", "maxLength", api.AddressBytesMax},
		{api.DrainInstance{}, "Reason", "maxLength", api.ReasonBytesMax},
		{api.EnqueueEvents{}, "Events", "maxItems", api.EventsMax},
		{api.RowEvent{}, "PK", "maxItems", api.PKPartsMax},
		{api.WaitEvent{}, "WaitMs", "maximum", api.ParkMaxMs},
		{api.Batch{}, "Ops", "maxItems", api.BatchOpsMax},
		{api.BatchOp{}, "Key", "maxLength", api.IdempotencyKeyMax},
		{api.PassOptions{}, "ConfirmDelayMs", "maximum", api.WaitMaxMs},
		{api.PassOptions{}, "Cap", "maximum", api.TokenMax},
		{api.PassOptions{}, "Rate", "maximum", api.TokenMax},
		{api.PassRange{}, "From", "maxItems", api.PKPartsMax},
		{api.PassRange{}, "To", "maxItems", api.PKPartsMax},
		{api.ApprovePass{}, "Limit", "maximum", api.TokenMax},
		{api.PutSchedule{}, "Cron", "maxLength", api.NameBytesMax},
		{api.PutSchedule{}, "Zone", "maxLength", api.NameBytesMax},
		{api.PutSchedule{}, "JitterMs", "maximum", api.WaitMaxMs},
		{Keyed{}, "Key", "maxLength", api.IdempotencyKeyMax},
		{Listing{}, "WaitMs", "maximum", api.ParkMaxMs},
		{Listing{}, "Limit", "maximum", api.PageMax},
		{Listing{}, "Limit", "default", api.PageDefault},
		{Listing{}, "Cursor", "maxLength", api.CursorBytesMax},
	} {
		f, ok := reflect.TypeOf(c.of).FieldByName(c.field)
		if got := f.Tag.Get(c.tag); !ok || got != strconv.Itoa(c.want) {
			t.Errorf("%T.%s %s is %q, want %d", c.of, c.field, c.tag, got, c.want)
		}
	}
	for _, of := range []any{api.RegisterInstance{}, api.RowEvent{}, api.WaitEvent{}, api.StartPass{}} {
		for i := range reflect.TypeOf(of).NumField() {
			f := reflect.TypeOf(of).Field(i)
			if p, has := f.Tag.Lookup("pattern"); has && p != api.Slug {
				t.Errorf("%T.%s: pattern %s", of, f.Name, p)
			}
		}
	}
}

// FuzzEdge_NoBodyIsABug: whatever stands in a body, the answer is not 500 and every error is a problem.
func FuzzEdge_NoBodyIsABug(f *testing.F) {
	for _, seed := range []string{
		`{}`, `[]`, `null`, `{"session":"s","locks":[{"name":"a"}],"wait_ms":0}`, `{"ticket":9007199254740991}`, `{"ticket":1e3}`, `{"locks":null}`,
		`{"events":[{"mapping":"m","pk":[1]}]}`, `{"events":[{"mapping":"m","pk":[null,{"a":[]}]}]}`, `{"events":[null]}`,
		`{"ops":[{"op":"locks.acquire","body":{}},{"op":"mappings.put","id":"m","body":null},{"op":"sessions.close","id":"x"}]}`,
		`{"ops":[{"op":"outbox.events","key":"c/1","acked":2,"body":{"events":[]}}]}`, "{\"session\":\"\xff\",\"locks\":[{\"name\":\"\\ud800\"}]}",
	} {
		for which := range fuzzed {
			f.Add(which, seed)
		}
	}
	e := newEdge(f)
	e.do(put, "/v1/mappings/m", `{"table":"t"}`)
	e.rep.apply(fsm.Op{Command: fsm.OpenSession{ID: "s", TTLMs: 600_000}})
	f.Fuzz(func(t *testing.T, which int, body string) {
		if which < 0 || which >= len(fuzzed) {
			return
		}
		var b struct {
			Ticket any `json:"ticket"`
			WaitMs any `json:"wait_ms"`
		}
		if json.Unmarshal([]byte(body), &b) == nil && (b.WaitMs != nil || b.Ticket != nil) {
			return // would park
		}
		r := e.do(post, fuzzed[which], body)
		if r.status == 500 {
			t.Fatalf("%s %q: %s", fuzzed[which], body, r.body)
		}
		if r.status >= 400 {
			r.problem(t)
		}
	})
}

var fuzzed = []string{"/v1/locks/acquire", "/v1/outbox/events", "/v1/batch", "/v1/locks/release", "/v1/instances/x/phase"}
