package httpapi

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

// member is a ready instance of service web, settled.
type member struct {
	e *edge
	api.Registered
	index uint64
}

func (e *edge) member(name string) *member {
	e.t.Helper()
	e.rep.apply(fsm.Op{Command: fsm.PutService{Name: "web", MaxUnavailable: 1, SettleMs: new(uint64)}})
	m := &member{e: e, Registered: into[api.Registered](e.t, e.do(post, "/v1/instances", fmt.Sprintf(`{"service":"web","name":%q,"lease_ttl_ms":60000}`, name)))}
	m.says("ready", "")
	m.index = m.alive(0, 0).Index
	return m
}

func (m *member) says(what, more string) api.InstanceStatus {
	m.e.t.Helper()
	return into[api.InstanceStatus](m.e.t, m.e.do(post, "/v1/instances/"+m.ID+"/"+what, fmt.Sprintf(`{"incarnation":%d%s}`, m.Incarnation, more)))
}

func (m *member) body(after, waitMs uint64) string {
	return fmt.Sprintf(`{"incarnation":%d,"after":%d,"wait_ms":%d}`, m.Incarnation, after, waitMs)
}

func (m *member) alive(after, waitMs uint64) api.InstanceLease {
	m.e.t.Helper()
	return into[api.InstanceLease](m.e.t, m.e.do(post, "/v1/instances/"+m.ID+"/keepalive", m.body(after, waitMs)))
}

func TestInstanceKeepalive_ParksUntilThereIsNews(t *testing.T) {
	t.Parallel()
	for _, news := range []struct {
		what   string
		happen func(e *edge, m *member)
		want   api.InstanceLease
	}{
		{"a drain", func(e *edge, m *member) { e.do(post, "/v1/instances/"+m.ID+"/drain", `{"intent":"restart"}`) },
			api.InstanceLease{State: api.StateDraining, Directive: api.DirectiveDrain}},
		{"a pause", func(e *edge, m *member) { e.do(post, "/v1/instances/"+m.ID+"/pause", `{}`) },
			api.InstanceLease{State: api.StatePaused, Directive: api.DirectivePause}},
		{"a service that takes no writes", func(e *edge, m *member) { e.do(put, "/v1/services/web", `{"read_only":true}`) },
			api.InstanceLease{State: api.StateReady, Directive: api.DirectiveServe, ReadOnly: true}},
	} {
		t.Run(news.what, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				e := newEdge(t)
				m := e.member("a")
				begun := time.Now()
				got := later(e, post, "/v1/instances/"+m.ID+"/keepalive", m.body(m.index, 20_000))
				synctest.Wait()
				<-time.After(3 * time.Second) // by the clock of the bubble: the request is parked
				news.happen(e, m)
				a := into[api.InstanceLease](t, <-got)
				if a.State != news.want.State || a.Directive != news.want.Directive || a.ReadOnly != news.want.ReadOnly || a.Index <= m.index {
					t.Fatalf("%+v", a)
				}
				if took := time.Since(begun); took != 3*time.Second {
					t.Fatalf("answered after %s", took)
				}
				if e.rep.watching() != 0 {
					t.Fatal("a watch stayed open")
				}
			})
		})
	}
}

// What the answer says of the lease counts from the sending: a request that was parked for a while must not make it longer.
func TestInstanceKeepalive_DeadlineDoesNotGrowWhileParked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEdge(t)
		m := e.member("a")
		at := m.alive(m.index, 0).DeadlineInMs
		begun := time.Now()
		a := m.alive(m.index, 20_000)
		if time.Since(begun) != 20*time.Second || a.DeadlineInMs != at || a.State != api.StateReady {
			t.Fatalf("%+v after %s, unparked %d", a, time.Since(begun), at)
		}
		begun = time.Now()
		if a = m.alive(m.index, 60_000); time.Since(begun) != time.Duration(at/2)*time.Millisecond {
			t.Fatalf("parked for %s of a lease of %d ms", time.Since(begun), at)
		}
	})
}

func TestInstanceKeepalive_ParkedOneHearsThatItIsOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEdge(t)
		m := e.member("a")
		got := later(e, post, "/v1/instances/"+m.ID+"/keepalive", m.body(m.index, 20_000))
		synctest.Wait()
		e.member("a") // the same name again
		if p := (<-got).problem(t); p.Code != api.CodeFenced {
			t.Fatalf("%+v", p)
		}
	})
}

func TestInstanceKeepalive_ParkedOnesEndWithTheNode(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEdge(t)
		m := e.member("a")
		begun := time.Now()
		got := later(e, post, "/v1/instances/"+m.ID+"/keepalive", m.body(m.index, 20_000))
		synctest.Wait()
		_ = e.Drain(t.Context())
		if r := <-got; r.status != 200 || time.Since(begun) > time.Second {
			t.Fatalf("%d after %s", r.status, time.Since(begun))
		}
	})
}

// Connections are logged when they change and not otherwise; counters of one that serves are never.
func TestInstanceKeepalive_LogsConnectionsWhenTheyChange(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	m := e.member("a")
	say := func(connections string) uint64 {
		t.Helper()
		r := e.do(post, "/v1/instances/"+m.ID+"/keepalive", fmt.Sprintf(`{"incarnation":%d,"counters":{"in_flight":4}%s}`, m.Incarnation, connections))
		return into[api.InstanceLease](t, r).Index
	}
	first := say(`,"connections":[{"source":"main","ids":[3,1,3]}]`)
	if first == m.index {
		t.Fatal("not logged")
	}
	if again := say(`,"connections":[{"source":"main","ids":[1,3]}]`); again != first {
		t.Fatalf("the same again was logged: %d after %d", again, first)
	}
	if none := say(``); none != first {
		t.Fatal("nothing said is nothing changed")
	}
	got := into[api.Instance](t, e.do(get, "/v1/instances/"+m.ID, ""))
	if got.Connections != 2 || got.Counters["in_flight"] != 4 {
		t.Fatalf("%+v", got)
	}
	if gone := say(`,"connections":[]`); gone == first {
		t.Fatal("the end of all connections was not logged")
	}
}
