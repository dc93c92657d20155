package quiescetest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/quiescehq/quiesce/api"
)

type session struct {
	id       string
	ttl      time.Duration
	deadline time.Time
	instance string
}

type lock struct {
	session string
	token   uint64
}

type ticketState int

const (
	ticketWaiting ticketState = iota
	ticketGranted
	ticketEnded
)

type ticket struct {
	id      uint64
	session string
	lock    string
	token   uint64
	state   ticketState
	until   time.Time
	timeout bool
	claimed bool // the grant was told to its owner
}

func (c *Coordinator) openSession(_ *http.Request, body api.OpenSession) answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.newSession(body.TTLMs)
	return ok(api.Session{ID: s.id, TTLMs: body.TTLMs})
}

func (c *Coordinator) newSession(ttlMs uint64) *session {
	ttl := time.Duration(ttlMs) * time.Millisecond
	s := &session{id: fmt.Sprintf("session-%d", c.nextToken()), ttl: ttl, deadline: time.Now().Add(ttl)}
	c.sessions[s.id] = s
	return s
}

func (c *Coordinator) keepaliveSessions(_ *http.Request, body api.KeepaliveSessions) answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	var leases api.SessionLeases
	gone := true
	for _, id := range body.IDs {
		s, found := c.sessions[id]
		if !found {
			leases.Sessions = append(leases.Sessions, api.SessionLease{ID: id, Gone: true})
			continue
		}
		gone = false
		s.deadline = time.Now().Add(s.ttl)
		leases.Sessions = append(leases.Sessions, api.SessionLease{ID: id, TTLMs: uint64(s.ttl.Milliseconds()), RemainingMs: uint64(s.ttl.Milliseconds())})
	}
	if gone {
		return refused(api.CodeSessionNotFound, "no such session")
	}
	return ok(leases)
}

func (c *Coordinator) closeSession(r *http.Request, _ struct{}) answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, found := c.sessions[r.PathValue("id")]
	if !found {
		return refused(api.CodeSessionNotFound, "no such session")
	}
	c.endSession(s, api.StateLeft)
	return ok(struct{}{})
}

// endSession ends a session, its waits and its locks, and its instance in the given state.
func (c *Coordinator) endSession(s *session, as string) {
	delete(c.sessions, s.id)
	for _, t := range c.tickets {
		if t.session == s.id && t.state == ticketWaiting {
			t.state = ticketEnded
		}
	}
	for name, l := range c.locks {
		if l.session == s.id {
			c.free(name)
		}
	}
	if v := c.instances[s.instance]; v != nil && live(v.state) {
		v.state = as
		c.grantDrains()
	}
	c.notify()
}

// free gives a lock to the oldest waiter, or to nobody.
func (c *Coordinator) free(name string) {
	delete(c.locks, name)
	var next *ticket
	for _, t := range c.tickets {
		if t.lock == name && t.state == ticketWaiting && (next == nil || t.id < next.id) {
			next = t
		}
	}
	if next != nil {
		next.state, next.token = ticketGranted, c.nextToken()
		c.locks[name] = &lock{session: next.session, token: next.token}
	}
	c.notify()
}

func (c *Coordinator) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expireLocked()
}

func (c *Coordinator) expireLocked() {
	now := time.Now()
	for _, s := range c.sessions {
		if !now.Before(s.deadline) {
			c.endSession(s, api.StateLost)
		}
	}
	for _, t := range c.tickets {
		if t.state == ticketWaiting && !now.Before(t.until) {
			t.state, t.timeout = ticketEnded, true
			c.notify()
		}
	}
}

// batch serves the one form that the SDK sends: a single acquire.
func (c *Coordinator) batch(_ *http.Request, body api.Batch) answer {
	var ask api.AcquireLocks
	if len(body.Ops) != 1 || body.Ops[0].Op != api.OpAcquire || json.Unmarshal(body.Ops[0].Body, &ask) != nil {
		return refused(api.CodeInvalid, "this fake serves a batch of one acquire")
	}
	a := c.once(body.Ops[0].Key, func() answer {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.take(ask)
	})
	result := api.BatchResult{Status: a.status}
	if problem, refused := a.body.(*api.Problem); refused {
		result.Problem = problem
	} else {
		result.Body, _ = json.Marshal(a.body)
	}
	return ok(api.BatchAnswer{Results: []api.BatchResult{result}})
}

// take grants a free lock, or queues.
func (c *Coordinator) take(ask api.AcquireLocks) answer {
	if c.sessions[ask.Session] == nil {
		return refused(api.CodeSessionNotFound, "no such session")
	}
	name := ask.Locks[0].Name
	held := c.locks[name]
	switch {
	case held == nil:
		l := &lock{session: ask.Session, token: c.nextToken()}
		c.locks[name] = l
		return granted(name, l.token)
	case ask.WaitMs == 0 || held.session == ask.Session:
		a := refused(api.CodeLockHeld, "the lock is held")
		p := a.body.(*api.Problem)
		p.Holder, p.Token = held.session, held.token
		return a
	}
	t := &ticket{id: c.nextToken(), session: ask.Session, lock: name, until: time.Now().Add(time.Duration(ask.WaitMs) * time.Millisecond)}
	c.tickets[t.id] = t
	c.notify()
	return answer{http.StatusAccepted, api.Acquired{Ticket: t.id, Position: 1}}
}

func granted(name string, token uint64) answer {
	return ok(api.Acquired{Grants: []api.Grant{{Name: name, Token: token}}})
}

// acquire parks on a ticket; the SDK sends no other form.
func (c *Coordinator) acquire(r *http.Request, ask api.AcquireLocks) answer {
	end := time.Now().Add(time.Duration(ask.WaitMs) * time.Millisecond)
	for {
		c.mu.Lock()
		c.expireLocked()
		a, over := c.ticketAnswer(ask.Ticket, end)
		changed, wake := c.changed, end
		for _, s := range c.sessions {
			if s.deadline.Before(wake) {
				wake = s.deadline
			}
		}
		if t := c.tickets[ask.Ticket]; t != nil && t.until.Before(wake) {
			wake = t.until
		}
		c.mu.Unlock()
		if over {
			return a
		}
		timer := time.NewTimer(time.Until(wake))
		select {
		case <-changed:
		case <-timer.C:
		case <-r.Context().Done():
		}
		timer.Stop()
		if r.Context().Err() != nil {
			return a
		}
	}
}

func (c *Coordinator) ticketAnswer(id uint64, end time.Time) (answer, bool) {
	t := c.tickets[id]
	switch {
	case t == nil:
		return refused(api.CodeTicketNotFound, "no such ticket"), true
	case t.state == ticketGranted:
		t.claimed = true
		return granted(t.lock, t.token), true
	case t.state == ticketEnded && t.timeout:
		return refused(api.CodeLockWaitTimeout, "waited in vain"), true
	case t.state == ticketEnded:
		return refused(api.CodeTicketEnded, "the wait is over"), true
	}
	return answer{http.StatusAccepted, api.Acquired{Ticket: id, Position: 1}}, !time.Now().Before(end)
}

func (c *Coordinator) release(_ *http.Request, body api.ReleaseLocks) answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, g := range body.Locks {
		l := c.locks[g.Name]
		if l == nil || l.session != body.Session || l.token != g.Token {
			return refused(api.CodeNotHolder, "this session does not hold the lock with this token")
		}
		for _, t := range c.tickets {
			if t.token == g.Token {
				t.state = ticketEnded
			}
		}
		c.free(g.Name)
	}
	return ok(struct{}{})
}

func (c *Coordinator) cancel(_ *http.Request, body api.CancelWait) answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.tickets[body.Ticket]
	switch {
	case t == nil:
		return refused(api.CodeTicketNotFound, "no such ticket")
	case t.state == ticketEnded || t.claimed:
		return refused(api.CodeTicketEnded, "the wait is over")
	case t.state == ticketGranted:
		t.state = ticketEnded
		c.free(t.lock)
	default:
		t.state = ticketEnded
	}
	return ok(struct{}{})
}
