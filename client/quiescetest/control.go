package quiescetest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"

	"github.com/quiescehq/quiesce/api"
)

// Call asks the coordinator what nobody else sees: no fault meets the request, and it is not recorded. A body that is not nil is sent as
// JSON, and an answer that is not nil is read as such. A refusal is an *api.Problem.
func (c *Coordinator) Call(method, path string, body, answer any) error {
	var sent []byte
	if body != nil {
		var err error
		if sent, err = json.Marshal(body); err != nil {
			return fmt.Errorf("quiescetest: %w", err)
		}
	}
	r := httptest.NewRequest(method, path, bytes.NewReader(sent))
	r.Header.Set("Content-Type", api.ContentJSON)
	w := httptest.NewRecorder()
	c.edge.Handler().ServeHTTP(w, r)
	if w.Code >= http.StatusMultipleChoices {
		var p api.Problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
			return fmt.Errorf("quiescetest: %d %s: %w", w.Code, w.Body, err)
		}
		return &p
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(w.Body.Bytes(), answer)
}

// PutService declares a service or changes it.
func (c *Coordinator) PutService(name string, rules api.PutService) error {
	return c.Call(http.MethodPut, servicePath(name), rules, nil)
}

// ReadOnly makes the instances of a service refuse writes, or take them again. The rules of the service stay.
func (c *Coordinator) ReadOnly(service string, on bool) error {
	var now api.Service
	if err := c.Call(http.MethodGet, servicePath(service), nil, &now); err != nil {
		return err
	}
	return c.PutService(service, api.PutService{Replicas: now.Replicas, MaxUnavailable: now.MaxUnavailable,
		MaxUnavailablePercent: now.MaxUnavailablePercent, MinAvailable: now.MinAvailable, MinAvailablePercent: now.MinAvailablePercent,
		SettleMs: &now.SettleMs, RestartHoldMs: &now.RestartHoldMs, LostHoldMs: &now.LostHoldMs, DependsOn: now.DependsOn,
		ReadOnly: &on, Cleanup: now.Cleanup})
}

func servicePath(name string) string { return "/v1/services/" + url.PathEscape(name) }

// Undo takes the drain of an instance back, as an operator does.
func (c *Coordinator) Undo(id string) error { return c.wish(id, "undo", false) }

// Pause takes an instance out of service, whatever the budget says.
func (c *Coordinator) Pause(id string) error { return c.wish(id, "pause", true) }

// Unpause takes it back. (Resume is the end of Hang.)
func (c *Coordinator) Unpause(id string) error { return c.wish(id, "resume", false) }

func (c *Coordinator) wish(id, what string, force bool) error {
	return c.Call(http.MethodPost, "/v1/instances/"+id+"/"+what, api.InstanceWish{Force: force, Reason: "test"}, nil)
}

// StartPlan starts a plan and gives its id.
func (c *Coordinator) StartPlan(rules api.PlanRules) (uint64, error) {
	var made api.Plan
	err := c.Call(http.MethodPost, "/v1/plans", api.NewPlan{PlanRules: rules, Start: true}, &made)
	return made.ID, err
}

// Plan tells how far a plan is.
func (c *Coordinator) Plan(id uint64) (plan api.Plan, err error) {
	err = c.Call(http.MethodGet, fmt.Sprintf("/v1/plans/%d", id), nil, &plan)
	return plan, err
}

// Status is all that the coordinator tells of an instance; zero when it does not know it.
func (c *Coordinator) Status(id string) api.Instance {
	var v api.Instance
	err := c.Call(http.MethodGet, "/v1/instances/"+id, nil, &v)
	if p := (*api.Problem)(nil); err != nil && !errors.As(err, &p) {
		panic(err) // the answer of an edge in the same process can always be read
	}
	return v
}
