package httpapi

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

// generalOnly is an edge without the fast way.
func generalOnly(t testing.TB) *edge {
	e := newEdge(t)
	e.busy = nil
	return e
}

func fastBodies(session string) []string {
	s := fmt.Sprintf(`"session":%q`, session)
	return []string{
		`{` + s + `,"locks":[{"name":"a"}]}`,
		"{ " + s + " ,\n\"locks\" : [ { \"name\" : \"a b\" , \"mode\" : \"shared\" } ] , \"wait_ms\" : 0 }",
		`{` + s + `,"locks":[{"name":"x","mode":"permits","permits":2,"limit":3},{"name":"y"}],"owner":"o","reentrant":true,"value":"v","lock_delay_ms":7,"claim_ms":5}`,
		`{` + s + `,"locks":[{"name":"é"}]}`, `{` + s + `,"locks":[{"name":"\u0041\n"}]}`, `{` + s + `,"locks":[{"name":"\""}]}`,
		`{` + s + `,"locks":[{"name":"<&>"}]}`, `{` + s + `,"locks":[{"name":"` + strings.Repeat("n", 257) + `"}]}`,
		`{` + s + `,"locks":[]}`, `{` + s + `}`, `{` + s + `,"locks":null}`, `{` + s + `,"locks":[{"name":"a"},]}`, `{` + s + `,"locks":[{"name":"a"}],}`,
		`{` + s + `,"locks":[{"name":"a"}]}{}`, `{` + s + `,"locks":[{"name":"a"}]} x`, `{` + s + `,"locks":[{"name":"a","name":"b"}]}`,
		`{` + s + `,"LOCKS":[{"name":"a"}]}`, `{` + s + `,"locks":[{"name":"a","mode":""}]}`, `{` + s + `,"locks":[{"name":"a","mode":"both"}]}`,
		`{` + s + `,"locks":[{"name":"a"}],"wait_ms":01}`, `{` + s + `,"locks":[{"name":"a"}],"wait_ms":-1}`, `{` + s + `,"locks":[{"name":"a"}],"wait_ms":1.0}`,
		`{` + s + `,"locks":[{"name":"a"}],"wait_ms":1e0}`, `{` + s + `,"locks":[{"name":"a"}],"wait_ms":99999999999999999999}`,
		`{` + s + `,"locks":[{"name":"a"}],"wait_ms":86400001}`, `{` + s + `,"locks":[{"name":"a"}],"reentrant":1}`, `{` + s + `,"locks":[{"name":"a"}],"color":1}`,
		`{"session":"nobody","locks":[{"name":"a"}]}`, `{"session":"","locks":[{"name":"a"}]}`, `{"session":"a b","locks":[{"name":"a"}]}`,
		`{` + s + `,"locks":[{"name":"z","token":1}]}`, `{` + s + `,"locks":[{"name":"z","token":0}]}`, `{` + s + `,"locks":[{"name":"z","token":9007199254740992}]}`,
		`{"ops":[{"op":"locks.acquire","key":"c/1","acked":1,"body":{` + s + `,"locks":[{"name":"b"}]}},{"op":"locks.release","body":{` + s + `,"locks":[{"name":"b","token":1}]}}]}`,
		`{"ops":[{"op":"locks.acquire","body":{` + s + `,"locks":[{"name":"b"}]}},{"op":"locks.acquire","body":{` + s + `,"locks":[{"name":"\u0062"}],"wait_ms":5}},{"op":"fly"},{"op":"sessions.open","body":{"ttl_ms":5000}}]}`,
		`{"ticket":3}`, `{"ticket":99999,"wait_ms":1}`, `{"ticket":0}`, `{"ticket":-1}`, `{"ticket":1,` + s + `}`, `{"ticket":1,"owner":"o"}`,
		`{"ids":["` + session + `"]}`, `{"ids":["` + session + `","nobody"]}`, `{"ids":["nobody"]}`, `{"ids":[]}`, `{"ids":["a b"]}`, `{"ids":null}`, `{"ids":["é"]}`, `{"ids":[1]}`,
		`{"ops":[{"op":"locks.acquire","body":null}]}`, `{"ops":[{"op":"locks.acquire","body":{}}]}`, `{"ops":[{"op":"locks.acquire","id":"x","body":{}}]}`,
		`{"ops":[{"op":"locks.release","if_match":3,"body":{` + s + `,"locks":[{"name":"b","token":1}]}}]}`, `{"ops":[]}`, `{"ops":[{"op":"locks.release","acked":4,"body":{}}]}`,
		`{"ops":[{"op":"locks.acquire","body":{"a":"}"}}]}`, `{"ops":[{"op":"locks.acquire","body":{"a":{}}]}`, `[]`, ``, `{`, `"`, `{"ops":[{"op":"locks.acquire","body":{` + s + `,"locks":[{"name":"b"}],"ticket":2}}]}`,
	}
}

func sameOnBothWays(t *testing.T, fast, general *edge, path, body string, header ...string) {
	t.Helper()
	a, b := fast.do(post, path, body, header...), general.do(post, path, body, header...)
	if a.status != b.status || a.header.Get("Content-Type") != b.header.Get("Content-Type") || a.header.Get(api.HeaderIndex) != b.header.Get(api.HeaderIndex) {
		t.Fatalf("%s %s %v: %d %s %s, the general way %d %s %s", path, body, header, a.status, a.header, a.body, b.status, b.header, b.body)
	}
	var x, y any
	if len(a.body)+len(b.body) == 0 {
		return
	}
	if json.Unmarshal(a.body, &x) != nil || json.Unmarshal(b.body, &y) != nil || !reflect.DeepEqual(withoutDrawn(x), withoutDrawn(y)) {
		t.Fatalf("%s %s %v:\n%s\nthe general way:\n%s", path, body, header, a.body, b.body)
	}
}

// withoutDrawn hides what is drawn at random: ids, and the order in which the general way finds several faults.
func withoutDrawn(v any) string {
	hideFaults(v)
	b, _ := json.Marshal(v)
	return drawnID.ReplaceAllString(string(b), "id")
}

func hideFaults(v any) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			hideFaults(e)
		}
	case map[string]any:
		delete(v, "faults")
		delete(v, "detail")
		for _, e := range v {
			hideFaults(e)
		}
	}
}

// twins are two edges over two states with the same history, one without the fast way. The sessions have the same id.
func twins(t testing.TB) (fast, general *edge, session string) {
	fast, general = newEdge(t), generalOnly(t)
	session = "0123456789abcdef"
	for _, e := range []*edge{fast, general} {
		e.rep.apply(fsm.Op{Command: fsm.OpenSession{ID: session, TTLMs: 60_000}})
	}
	return fast, general, session
}

func TestFast_AnswersWhatTheGeneralWayAnswers(t *testing.T) {
	t.Parallel()
	fast, general, session := twins(t)
	for round := range 2 { // the second meets what the first left
		for i, body := range fastBodies(session) {
			for _, path := range []string{"/v1/locks/acquire", "/v1/locks/release", "/v1/batch", "/v1/sessions/keepalive"} {
				sameOnBothWays(t, fast, general, path, body)
				sameOnBothWays(t, fast, general, path, body, api.HeaderIdempotencyKey, fmt.Sprintf("c/%d", i), api.HeaderIdempotencyAcked, fmt.Sprint(i-min(i, 3*round)))
				sameOnBothWays(t, fast, general, path, body, api.HeaderIdempotencyKey, "free "+path)
				sameOnBothWays(t, fast, general, path, body, api.HeaderIdempotencyAcked, "x")
			}
		}
	}
}

// What is meant to be fast is: a reader that always gave up would pass the test above.
func TestFast_TakesThePlainRequests(t *testing.T) {
	t.Parallel()
	for what, plain := range map[string]func(*lean){
		fastBodies("s")[0]: func(l *lean) { l.acquire() }, fastBodies("s")[1]: func(l *lean) { l.acquire() }, fastBodies("s")[2]: func(l *lean) { l.acquire() },
		`{"session":"s","locks":[{"name":"z","token":1},{"name":"y","token":2}]}`:                                           func(l *lean) { l.release() },
		`{"ops":[{"op":"locks.acquire","key":"c/1","acked":1,"body":{"a":"{","b":[{}]}},{"op":"x","id":"y","if_match":2}]}`: func(l *lean) { l.batch() },
	} {
		l := lean{b: []byte(what)}
		if plain(&l); !l.end() {
			t.Errorf("%s is not read the fast way", what)
		}
	}
}

// FuzzFast: whatever the fast way accepts, encoding/json reads alike.
func FuzzFast(f *testing.F) {
	for _, body := range fastBodies("s") {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		check := func(ok bool, got, want any) {
			if !ok {
				return
			}
			if err := json.Unmarshal(body, want); err != nil {
				t.Fatalf("%q was accepted: %v", body, err)
			}
			if g := reflect.ValueOf(got).Elem().Interface(); !reflect.DeepEqual(g, reflect.ValueOf(want).Elem().Interface()) {
				t.Fatalf("%q was read as %+v, want %+v", body, got, want)
			}
		}
		l := lean{b: body}
		acquire := l.acquire()
		check(l.end() && acquire.Locks != nil, &acquire, &api.AcquireLocks{})
		l = lean{b: body}
		release := l.release()
		check(l.end(), &release, &api.ReleaseLocks{})
		l = lean{b: body}
		ops := l.batch()
		batch := api.Batch{Ops: ops}
		check(l.end() && allJSON(ops), &batch, &api.Batch{})
	})
}

// allJSON: skip looks at braces only, who reads the body later finds out the rest.
func allJSON(ops []api.BatchOp) bool {
	for _, o := range ops {
		if len(o.Body) > 0 && !json.Valid(o.Body) {
			return false
		}
	}
	return len(ops) > 0
}
