package httpapi

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"

	"github.com/quiescehq/quiesce/api"
)

func TestIdempotency_OneHundredParallelRequestsOpenOneSession(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	const n = 100
	ids := make([]string, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			var s api.Session
			if err := json.Unmarshal(e.do(post, "/v1/sessions", `{"ttl_ms":5000}`, api.HeaderIdempotencyKey, "c/7").body, &s); err == nil {
				ids[i] = s.ID
			}
		})
	}
	all.Wait()
	for _, id := range ids {
		if id == "" || id != ids[0] {
			t.Fatalf("sessions %v", ids)
		}
	}
	var sessions int
	e.view(func(v view) { sessions = v.Rows("sessions") })
	if sessions != 1 {
		t.Fatalf("%d sessions", sessions)
	}
}

func TestIdempotency_AnotherRequestUnderTheSameKeyIsRefused(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	for _, key := range []string{"c/1", "free form"[:4]} {
		first := into[api.Session](t, e.do(post, "/v1/sessions", `{"ttl_ms":5000}`, api.HeaderIdempotencyKey, key))
		for what, r := range map[string]reply{
			"body": e.do(post, "/v1/sessions", `{"ttl_ms":6000}`, api.HeaderIdempotencyKey, key),
			"path": e.do(remove, "/v1/sessions/"+first.ID, "", api.HeaderIdempotencyKey, key),
		} {
			if p := r.problem(t); p.Code != api.CodeKeyReused {
				t.Errorf("%s, other %s: %+v", key, what, p)
			}
		}
		if again := into[api.Session](t, e.do(post, "/v1/sessions", `{"ttl_ms":5000}`, api.HeaderIdempotencyKey, key)); again != first {
			t.Errorf("%+v, then %+v", first, again)
		}
	}
}

func TestIdempotency_RefusalsAreRememberedToo(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	holder, other := e.session(), e.session()
	token := into[api.Acquired](t, e.do(post, "/v1/locks/acquire", e.acquireBody(holder, "l", 0))).Grants[0].Token
	body := e.acquireBody(other, "l", 0)
	for range 2 {
		if p := e.do(post, "/v1/locks/acquire", body, api.HeaderIdempotencyKey, "c/1").problem(t); p.Code != api.CodeLockHeld {
			t.Fatalf("%+v", p)
		}
		e.do(post, "/v1/locks/release", fmt.Sprintf(`{"session":%q,"locks":[{"name":"l","token":%d}]}`, holder, token))
	}
}

func TestIdempotency_AcknowledgedResultsAreForgotten(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	send := func(seq, acked int) reply {
		return e.do(post, "/v1/sessions", `{"ttl_ms":5000}`, api.HeaderIdempotencyKey, fmt.Sprintf("c/%d", seq), api.HeaderIdempotencyAcked, fmt.Sprint(acked))
	}
	for seq := range 200 {
		into[api.Session](t, send(seq, seq))
	}
	var window int
	e.view(func(v view) { window = v.KeyWindow().Count })
	if window > 20 { // acknowledgements are taken in steps
		t.Fatalf("%d results are kept, all but the last are acknowledged", window)
	}
	if p := send(3, 4).problem(t); p.Code != api.CodeInvalid {
		t.Fatalf("%+v", p)
	}
	if p := e.do(post, "/v1/sessions", `{"ttl_ms":5000}`, api.HeaderIdempotencyKey, "free", api.HeaderIdempotencyAcked, "1").problem(t); p.Code != api.CodeInvalid {
		t.Fatalf("%+v", p)
	}
}

func TestIdempotency_KeysOfOneNumberAreOneKey(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]struct {
		client string
		seq    uint64
		ok     bool
	}{
		"c/1": {"c", 1, true}, "a/b/2": {"a/b", 2, true}, "c/0": {"c", 0, true}, "c/01": {}, "c/+1": {}, "c/-1": {}, "/1": {}, "c/": {}, "c": {},
		"c/18446744073709551615": {"c", 18446744073709551615, true}, "c/18446744073709551616": {},
	} {
		client, seq, ok := countedKey(key)
		if client != want.client || seq != want.seq || ok != want.ok {
			t.Errorf("%s: %q %d %v", key, client, seq, ok)
		}
	}
}

func TestBatch_IsOneEntryWithAResultOfItsOwnForEach(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	session := e.session()
	e.do(put, "/v1/mappings/m", `{"table":"t"}`)
	before := e.rep.entries.Load()
	body := fmt.Sprintf(`{"ops":[
		{"op":"locks.acquire","key":"c/1","body":{"session":%[1]q,"locks":[{"name":"a"}]}},
		{"op":"locks.acquire","key":"c/2","body":{"session":%[1]q,"locks":[{"name":"a"}]}},
		{"op":"locks.acquire","body":{"session":%[1]q,"locks":[{"name":"b","mode":"both"}]}},
		{"op":"outbox.events","body":{"events":[{"mapping":"m","pk":[1]},{"mapping":"m","pk":["x"]}]}},
		{"op":"outbox.events","body":{"events":[{"mapping":"m","pk":[1]}]}},
		{"op":"services.put","id":"orders","body":{"max_unavailable":2}},
		{"op":"services.put","id":"orders","if_match":9,"body":{"max_unavailable":3}},
		{"op":"services.put","id":"Orders","body":{"max_unavailable":2}},
		{"op":"sessions.open","body":{"ttl_ms":1,"color":2}},
		{"op":"sessions.open","id":"x","body":{"ttl_ms":1000}},
		{"op":"sessions.close","id":"nobody"},
		{"op":"sessions.close"},
		{"op":"services.delete","id":"orders","body":{}},
		{"op":"locks.acquire","body":{"ticket":3}},
		{"op":"fly"},
		{"op":"mappings.put","id":"n","body":{"table":"t"}}
	]}`, session)
	a := into[api.BatchAnswer](t, e.do(post, "/v1/batch", body))
	want := []int{200, 409, 422, 422, 200, 200, 412, 422, 422, 422, 410, 422, 422, 422, 422, 200}
	for i, r := range a.Results {
		if r.Status != want[i] || (r.Status >= 400) != (r.Problem != nil) {
			t.Errorf("op %d: %+v, want %d", i, r, want[i])
		}
	}
	if n := e.rep.entries.Load() - before; n != 1 {
		t.Errorf("%d entries", n)
	}
	again := into[api.BatchAnswer](t, e.do(post, "/v1/batch", body))
	if string(again.Results[0].Body) != string(a.Results[0].Body) || again.Results[1].Status != 409 {
		t.Errorf("keys of a batch: %s, then %s", a.Results[0].Body, again.Results[0].Body)
	}
	if p := e.do(post, "/v1/batch", `{"ops":[{"op":"fly"}]}`, api.HeaderIdempotencyKey, "c/9").problem(t); p.Code != api.CodeInvalid {
		t.Errorf("a key on the batch itself: %+v", p)
	}
	e.rep.fail(ErrNotApplied)
	if p := e.do(post, "/v1/batch", `{"ops":[{"op":"sessions.open","body":{"ttl_ms":1000}}]}`).problem(t); p.Code != api.CodeNotApplied {
		t.Errorf("%+v", p)
	}
}
