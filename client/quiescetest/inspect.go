package quiescetest

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

// Advance moves cluster time forward: what is due by then happens before it returns, in the order of the deadlines. Leases whose clients
// send no keepalive meanwhile expire, waits time out, and a grant that a wait got on the way lapses when more than its claim_ms (10 s) is
// left of d: move in steps where a client is to take part. Timers of the process itself do not move.
func (c *Coordinator) Advance(d time.Duration) { c.node.advance(uint64(max(0, d.Milliseconds()))) }

// ExpireAll ends all sessions, as if no keepalive had come for a TTL.
func (c *Coordinator) ExpireAll() { c.node.expire() }

// ExpireSession ends one session so, with its instance if it is that of one.
func (c *Coordinator) ExpireSession(id string) { c.node.expire(id) }

// LoseLeader leaves the cluster without a leader until ElectLeader: requests are answered with no_leader, parked ones with their ticket,
// and cluster time stands still.
func (c *Coordinator) LoseLeader() { c.node.resign() }

// ElectLeader begins the next term after LoseLeader. Sessions that were renewed in the last term have a full TTL from now.
func (c *Coordinator) ElectLeader() { c.node.lead() }

// Events lists the accepted events in the order of their tokens, those that were folded into a later one of the same row included: the last
// 100,000.
func (c *Coordinator) Events() []Event {
	c.node.mu.RLock()
	defer c.node.mu.RUnlock()
	return slices.Clone(c.node.seen.events)
}

// Instance is what the coordinator knows of an instance.
type Instance struct {
	ID, Service, Name, State, Session string
	Overdraft                         bool
	Phases                            []string // as reported, in order; repeated when counters changed
}

// Instances lists the instances in the order of their registration. One that left or was lost is kept for ten minutes.
func (c *Coordinator) Instances() []Instance {
	c.node.mu.RLock()
	defer c.node.mu.RUnlock()
	var rows []fsm.Instance
	c.node.state.Instances("", func(v fsm.Instance) bool {
		rows = append(rows, v)
		return true
	})
	slices.SortFunc(rows, func(a, b fsm.Instance) int { return cmp.Compare(a.Incarnation, b.Incarnation) })
	all := make([]Instance, 0, len(rows))
	for _, v := range rows {
		all = append(all, Instance{ID: v.ID, Service: v.Service, Name: v.Name, State: string(v.State), Session: v.Session, Overdraft: v.Overdraft,
			Phases: slices.Clone(c.node.seen.phases[v.ID])})
	}
	return all
}

// Drain asks for the drain of an instance, as an operator does.
func (c *Coordinator) Drain(id string) error {
	return c.propose(fsm.DrainInstance{ID: id, Intent: api.IntentRestart, Reason: "test"})
}

// PutMapping declares a mapping without a call. Its source is Source.
func (c *Coordinator) PutMapping(name string) error {
	return c.propose(fsm.PutMapping{Name: name, Source: Source, Spec: []byte("{}"), Columns: []byte("[]")})
}

func (c *Coordinator) propose(command fsm.Command) error {
	results, err := c.node.Propose(context.Background(), fsm.Op{Command: command})
	if err != nil {
		return err
	}
	if r := results[0]; r.Refused() {
		return fmt.Errorf("quiescetest: %s: %s", r.Code, r.Detail)
	}
	return nil
}

// LockState is how a lock stands, as GET /v1/locks tells it: with no holders and nobody waiting when it is free.
func (c *Coordinator) LockState(name string) api.Lock {
	r := httptest.NewRequest(http.MethodGet, "/v1/locks?consistency=stale&name="+url.QueryEscape(name), nil)
	w := httptest.NewRecorder()
	c.edge.Handler().ServeHTTP(w, r)
	var found api.Locks
	if err := json.Unmarshal(w.Body.Bytes(), &found); err != nil || w.Code != http.StatusOK || len(found.Locks) == 0 {
		return api.Lock{Name: name}
	}
	return found.Locks[0]
}

// Holder gives the session and the token of the oldest grant of a lock, or "" and 0.
func (c *Coordinator) Holder(name string) (session string, token uint64) {
	if l := c.LockState(name); len(l.Holders) > 0 {
		return l.Holders[0].Session, l.Holders[0].Token
	}
	return "", 0
}

// Waiting counts the waits for a lock.
func (c *Coordinator) Waiting(name string) int { return c.LockState(name).Waiting }
