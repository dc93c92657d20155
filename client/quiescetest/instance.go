package quiescetest

import (
	"fmt"
	"net/http"
	"time"

	"github.com/quiescehq/quiesce/api"
)

type instance struct {
	id, service, name, session, state string
	incarnation, ticket               uint64
	overdraft                         bool
	phases                            []string
}

func live(state string) bool { return state != api.StateLeft && state != api.StateLost }

func (c *Coordinator) register(_ *http.Request, body api.RegisterInstance) answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, v := range c.instances {
		if v.service == body.Service && v.name == body.Name && live(v.state) {
			c.endSession(c.sessions[v.session], api.StateLost)
		}
	}
	s := c.newSession(body.LeaseTTLMs)
	v := &instance{id: fmt.Sprintf("instance-%d", c.nextToken()), service: body.Service, name: body.Name, session: s.id,
		state: api.StateRegistered, incarnation: c.nextToken()}
	s.instance = v.id
	c.instances[v.id] = v
	return answer{http.StatusCreated, api.Registered{ID: v.id, Incarnation: v.incarnation, Session: s.id}}
}

// speaking finds the instance that a request speaks for.
func (c *Coordinator) speaking(r *http.Request, incarnation uint64) (*instance, answer) {
	v := c.instances[r.PathValue("id")]
	switch {
	case v == nil:
		return nil, refused(api.CodeInstanceNotFound, "no such instance")
	case !live(v.state) || incarnation != v.incarnation:
		return nil, refused(api.CodeStaleIncarnation, "this incarnation is over")
	}
	return v, answer{}
}

func (c *Coordinator) keepaliveInstance(r *http.Request, body api.Incarnation) answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, no := c.speaking(r, body.Incarnation)
	if v == nil {
		return refused(api.CodeFenced, no.body.(*api.Problem).Detail)
	}
	s := c.sessions[v.session]
	s.deadline = time.Now().Add(s.ttl)
	lease := api.InstanceLease{State: v.state, DeadlineInMs: uint64(s.ttl.Milliseconds())}
	if v.state == api.StateDraining {
		lease.Directive = api.DirectiveDrain
	}
	return ok(lease)
}

func (c *Coordinator) ready(r *http.Request, body api.Incarnation) answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, no := c.speaking(r, body.Incarnation)
	switch {
	case v == nil:
		return no
	case v.state == api.StateRegistered:
		v.state = api.StateReady
	case v.state != api.StateReady:
		return refused(api.CodeInstanceState, "an instance that is stopping does not become ready")
	}
	return ok(v.status())
}

func (v *instance) status() api.InstanceStatus {
	return api.InstanceStatus{State: v.state, Ticket: v.ticket, Overdraft: v.overdraft}
}

func (c *Coordinator) drain(r *http.Request, body api.DrainInstance) answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, no := c.speaking(r, body.Incarnation)
	if v == nil {
		return no
	}
	c.ask(v)
	return ok(v.status())
}

func (c *Coordinator) ask(v *instance) {
	switch v.state {
	case api.StateRegistered:
		v.state = api.StateDraining
	case api.StateReady:
		v.state, v.ticket = api.StateQueued, c.nextToken()
		c.grantDrains()
	}
}

// grantDrains lets the oldest queued instance of each service go while no other of it is stopping.
func (c *Coordinator) grantDrains() {
	stopping := map[string]bool{}
	first := map[string]*instance{}
	for _, v := range c.instances {
		switch v.state {
		case api.StateDraining, api.StateDrained:
			stopping[v.service] = true
		case api.StateQueued:
			if f := first[v.service]; f == nil || v.ticket < f.ticket {
				first[v.service] = v
			}
		}
	}
	for service, v := range first {
		if !stopping[service] {
			v.state = api.StateDraining
		}
	}
}

func (c *Coordinator) phase(r *http.Request, body api.ReportPhase) answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, no := c.speaking(r, body.Incarnation)
	switch {
	case v == nil:
		return no
	case v.state == api.StateRegistered || v.state == api.StateReady:
		return refused(api.CodeInstanceState, "ask for a drain before reporting its phases")
	case v.state == api.StateQueued && body.Phase != "announce":
		v.state, v.overdraft = api.StateDraining, true
	}
	v.phases = append(v.phases, body.Phase)
	return ok(v.status())
}

func (c *Coordinator) drained(r *http.Request, body api.Incarnation) answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, no := c.speaking(r, body.Incarnation)
	switch {
	case v == nil:
		return no
	case v.state == api.StateDrained:
	case v.state != api.StateDraining:
		return refused(api.CodeInstanceState, "only a draining instance becomes drained")
	}
	v.state = api.StateDrained
	return ok(v.status())
}

func (c *Coordinator) left(r *http.Request, body api.Incarnation) answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, no := c.speaking(r, body.Incarnation)
	if v == nil {
		return no
	}
	c.endSession(c.sessions[v.session], api.StateLeft)
	return ok(v.status())
}

// Drain asks for the drain of an instance, as an operator does.
func (c *Coordinator) Drain(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ask(c.instances[id])
}
