package httpapi

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

// TestRead_PagesShowEveryRowOnce walks collections page by page, while rows come and go beside the walk.
func TestRead_PagesShowEveryRowOnce(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	session := e.session()
	e.do(put, "/v1/mappings/a", `{"table":"t"}`)
	e.do(put, "/v1/mappings/b", `{"table":"t"}`)
	want := map[string][]string{}
	for i := range 25 {
		name := fmt.Sprintf("x/%02d", i)
		e.do(post, "/v1/locks/acquire", e.acquireBody(session, name, 0))
		e.do(post, "/v1/locks/acquire", e.acquireBody(session, "y"+name, 0))
		e.do(put, fmt.Sprintf("/v1/services/s%02d", i), `{"max_unavailable":1}`)
		e.do(post, "/v1/outbox/events", fmt.Sprintf(`{"events":[{"mapping":"a","pk":[%d]},{"mapping":"b","pk":[%d]}]}`, i, i))
		want["/v1/locks?prefix=x/"] = append(want["/v1/locks?prefix=x/"], name)
		want["/v1/services?limit=7"] = append(want["/v1/services?limit=7"], fmt.Sprintf("s%02d", i))
		want["/v1/outbox/events?mapping=b"] = append(want["/v1/outbox/events?mapping=b"], fmt.Sprintf("b/%d", i))
	}
	slices.Sort(want["/v1/outbox/events?mapping=b"])
	for path, names := range want {
		for _, limit := range []int{1, 7, 25, 26} {
			if got := walk(t, e, path, limit); !slices.Equal(sorted(got), names) {
				t.Errorf("%s by %d: %v, want %v", path, limit, got, names)
			}
		}
	}
}

func sorted(in []string) []string { out := slices.Clone(in); slices.Sort(out); return out }

func walk(t *testing.T, e *edge, path string, limit int) []string {
	t.Helper()
	var got []string
	u, _ := url.Parse(path)
	q := u.Query()
	q.Set("limit", fmt.Sprint(limit))
	for range 30 {
		u.RawQuery = q.Encode()
		r := into[struct {
			api.Page
			Locks    []api.Lock
			Services []api.Service
			Events   []api.Event
		}](t, e.do(get, u.String(), ""))
		if n := len(r.Locks) + len(r.Services) + len(r.Events); n > limit {
			t.Fatalf("%d rows in a page of %d", n, limit)
		}
		for _, l := range r.Locks {
			got = append(got, l.Name)
		}
		for _, s := range r.Services {
			got = append(got, s.Name)
		}
		for _, ev := range r.Events {
			got = append(got, ev.Mapping+"/"+ev.PK[0])
		}
		if r.Cursor == "" {
			return got
		}
		q.Set("cursor", r.Cursor)
	}
	t.Fatal("the pages never end")
	return nil
}

func TestRead_PassesArePagedInTheOrderOfTheirIDs(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	e.do(put, "/v1/mappings/a", `{"table":"t"}`)
	var want []uint64
	for range 12 { // ids of one digit and of two
		id := into[api.PassStarted](t, e.do(post, "/v1/passes", `{"mapping":"a"}`)).ID
		e.do(post, fmt.Sprintf("/v1/passes/%d/cancel", id), "")
		want = append(want, id)
	}
	var got []uint64
	cursor := ""
	for range 12 {
		page := into[api.Passes](t, e.do(get, "/v1/passes?limit=5&cursor="+cursor, ""))
		for _, p := range page.Passes {
			got = append(got, p.ID)
		}
		if cursor = page.Cursor; cursor == "" {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%v, want %v", got, want)
	}
}

// later runs a request beside the test. In a synctest bubble it parks durably.
func later(e *edge, method, path, body string) <-chan reply {
	out := make(chan reply, 1)
	go func() { out <- e.do(method, path, body) }()
	return out
}

func TestRead_LongPollAnswersWhenTheCollectionChanges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEdge(t)
		session := e.session()
		now := into[api.Locks](t, e.do(get, "/v1/locks", "")).Index
		got := later(e, get, fmt.Sprintf("/v1/locks?index=%d&wait_ms=30000", now), "")
		synctest.Wait()
		e.session() // another table
		synctest.Wait()
		select {
		case r := <-got:
			t.Fatalf("answered without a change: %s", r.body)
		default:
		}
		e.do(post, "/v1/locks/acquire", e.acquireBody(session, "a", 0))
		page := into[api.Locks](t, <-got)
		if len(page.Locks) != 1 || page.Index <= now {
			t.Fatalf("%+v", page)
		}
		if e.rep.watching() != 0 {
			t.Fatal("a watch stayed open")
		}
	})
}

func TestRead_LongPollEndsInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEdge(t)
		begun := time.Now()
		page := into[api.Locks](t, e.do(get, "/v1/locks?index=1&wait_ms=2500", ""))
		if took := time.Since(begun); took != 2500*time.Millisecond || len(page.Locks) != 0 {
			t.Fatalf("after %s: %+v", took, page)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun = time.Now()
		e.doCtx(ctx, get, "/v1/locks?index=1&wait_ms=60000", "")
		if took := time.Since(begun); took != time.Second {
			t.Fatalf("a client that left was held for %s", took)
		}
	})
}

func TestRead_LongPollAnswersAtOnceWhatIsNewer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEdge(t)
		e.do(post, "/v1/locks/acquire", e.acquireBody(e.session(), "a", 0))
		begun := time.Now()
		page := into[api.Locks](t, e.do(get, "/v1/locks?index=1&wait_ms=60000", ""))
		if len(page.Locks) != 1 || time.Since(begun) != 0 {
			t.Fatalf("%+v after %s", page, time.Since(begun))
		}
	})
}

func TestRead_IndexFromTheFutureIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEdge(t)
		begun := time.Now()
		if p := e.do(get, "/v1/locks?index=99&wait_ms=60000", "").problem(t); p.Code != api.CodeIndexAhead || p.Index != 1 || time.Since(begun) != 0 {
			t.Fatalf("%+v after %s", p, time.Since(begun))
		}
		// A follower that lags is given the time to catch up.
		got := later(e, get, "/v1/locks?index=2&wait_ms=60000&consistency=stale", "")
		synctest.Wait()
		e.do(post, "/v1/locks/acquire", e.acquireBody(e.session(), "a", 0))
		if page := into[api.Locks](t, <-got); len(page.Locks) != 1 {
			t.Fatalf("%+v", page)
		}
	})
}

func TestOutbox_WaitAnswersHowTheEventEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEdge(t)
		revision := into[api.MappingVersion](t, e.do(put, "/v1/mappings/m", `{"table":"t"}`)).Revision
		enqueue := func(pk int) uint64 {
			return into[api.Enqueued](t, e.do(post, "/v1/outbox/events", fmt.Sprintf(`{"events":[{"mapping":"m","pk":[%d]}]}`, pk))).Events[0].Token
		}
		wait := func(pk int, token uint64, ms int) string {
			return fmt.Sprintf(`{"mapping":"m","pk":[%d],"token":%d,"wait_ms":%d}`, pk, token, ms)
		}
		settle := func(pk int, token uint64) fsm.Settlement {
			return fsm.Settlement{Row: fsm.RowRef{Mapping: "m", PK: fmt.Sprintf(`["%d"]`, pk)}, Revision: revision, Token: token}
		}
		done, dead := enqueue(1), enqueue(2)
		if got := into[api.EventState](t, e.do(post, "/v1/outbox/wait", wait(1, done, 100))); got.State != api.EventPending {
			t.Fatal(got)
		}
		first, second := later(e, post, "/v1/outbox/wait", wait(1, done, 60_000)), later(e, post, "/v1/outbox/wait", wait(2, dead, 60_000))
		synctest.Wait()
		e.rep.apply(fsm.Op{Command: fsm.SettleEvents{Events: []fsm.Settlement{settle(1, done)}}})
		e.rep.apply(fsm.Op{Command: fsm.BuryEvents{Events: []fsm.Failure{{Event: settle(2, dead), Class: "unrenderable"}}}})
		if got := into[api.EventState](t, <-first); got.State != api.EventDone {
			t.Error(got)
		}
		if got := into[api.EventState](t, <-second); got.State != api.EventDead {
			t.Error(got)
		}
		if got := into[api.EventState](t, e.do(post, "/v1/outbox/wait", wait(1, dead+1_000, 0))); got.State != api.EventUnknown {
			t.Error(got)
		}
		letters := into[api.DeadLetters](t, e.do(get, "/v1/outbox/dead?mapping=m", "")).Dead
		if len(letters) != 1 || letters[0].Failure != "unrenderable" || letters[0].PK[0] != "2" {
			t.Errorf("%+v", letters)
		}
	})
}

func TestOutbox_LagIsTheAgeOfTheOldestEvent(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	e.do(put, "/v1/mappings/m", `{"table":"t"}`)
	e.do(post, "/v1/outbox/events", `{"events":[{"mapping":"m","pk":[1]}]}`)
	e.rep.advance(4_000)
	e.do(post, "/v1/outbox/events", `{"events":[{"mapping":"m","pk":[2]}]}`)
	if st := into[api.OutboxStats](t, e.do(get, "/v1/outbox/stats", "")); st.LagMs != 4_000 || st.Pending != 2 || st.Mappings[0].LagMs != 4_000 {
		t.Fatalf("%+v", st)
	}
	if m := string(e.do(get, "/metrics", "").body); !strings.Contains(m, "quiesce_outbox_lag_seconds 4") || !strings.Contains(m, `quiesce_state_rows{table="events"} 2`) {
		t.Fatal(m)
	}
}
