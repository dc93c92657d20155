package quiescetest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"slices"

	"github.com/quiescehq/quiesce/api"
)

// record notes a request and gives it back with its body unread.
func record(c *Coordinator, r *http.Request) *http.Request {
	body, _ := io.ReadAll(io.LimitReader(r.Body, api.BodyBytesMax))
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.ContentLength = int64(len(body))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = append(c.requests, Request{Method: r.Method, Path: r.URL.Path, Key: r.Header.Get(api.HeaderIdempotencyKey),
		Acked: r.Header.Get(api.HeaderIdempotencyAcked), Body: body})
	return r
}

// Requests lists the calls to a path, or all of them for "".
func (c *Coordinator) Requests(path string) []Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []Request
	for _, r := range c.requests {
		if path == "" || r.Path == path {
			found = append(found, r)
		}
	}
	return found
}

// Events lists the accepted events in order.
func (c *Coordinator) Events() []Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.events)
}

// Instance is what the coordinator knows of an instance.
type Instance struct {
	ID, Name, State, Session string
	Overdraft                bool
	Phases                   []string // as reported, in order; repeated when counters changed
}

// Instances lists the instances in the order of their registration.
func (c *Coordinator) Instances() []Instance {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []Instance
	for _, v := range c.instances {
		all = append(all, Instance{ID: v.id, Name: v.name, State: v.state, Session: v.session, Overdraft: v.overdraft, Phases: slices.Clone(v.phases)})
	}
	slices.SortFunc(all, func(a, b Instance) int {
		return int(c.instances[a.ID].incarnation) - int(c.instances[b.ID].incarnation)
	})
	return all
}

// Holder gives the session and the token that hold a lock, or "" and 0.
func (c *Coordinator) Holder(name string) (string, uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expireLocked()
	if l := c.locks[name]; l != nil {
		return l.session, l.token
	}
	return "", 0
}

// Waiting counts the waits for a lock.
func (c *Coordinator) Waiting(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, t := range c.tickets {
		if t.lock == name && t.state == ticketWaiting {
			n++
		}
	}
	return n
}

func (c *Coordinator) putMapping(r *http.Request, spec json.RawMessage) answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.revision++
	c.mappings[r.PathValue("name")] = spec
	return ok(api.MappingVersion{Name: r.PathValue("name"), Revision: c.revision})
}

func (c *Coordinator) getMapping(r *http.Request, _ struct{}) answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	spec, known := c.mappings[r.PathValue("name")]
	if !known {
		return refused(api.CodeMappingNotFound, "no such mapping")
	}
	return ok(api.Mapping{Name: r.PathValue("name"), Revision: c.revision, Spec: spec})
}

func (c *Coordinator) enqueue(_ *http.Request, body api.EnqueueEvents) answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(body.Events) == 0 || len(body.Events) > api.EventsMax {
		return refused(api.CodeInvalid, "between 1 and 1,000 events at a time")
	}
	for _, e := range body.Events {
		if _, known := c.mappings[e.Mapping]; !known {
			return refused(api.CodeMappingNotFound, "no such mapping: "+e.Mapping)
		}
	}
	var got api.Enqueued
	for _, e := range body.Events {
		var pk string
		_ = json.Unmarshal(e.PK[0], &pk) // a number stays "": the SDK sends text
		token := c.nextToken()
		c.events = append(c.events, Event{Mapping: e.Mapping, PK: pk, Token: token})
		got.Events = append(got.Events, api.EventToken{Token: token})
	}
	return ok(got)
}

// PutMapping declares a mapping without a call.
func (c *Coordinator) PutMapping(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mappings[name] = json.RawMessage("{}")
}
