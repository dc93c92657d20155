package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/quiescehq/quiesce/api"
)

const (
	ordersService = "orders"
	settle        = 300 * time.Millisecond
	restartHold   = 30 * time.Second
	planLimit     = 90 * time.Second
)

var errPlan = errors.New("the plan did not succeed")

// declare sets the budget of orders: one of three may be away, until its successor has served for a moment.
func (d *demo) declare(ctx context.Context) error {
	settleMs, holdMs := uint64(settle.Milliseconds()), uint64(restartHold.Milliseconds())
	return d.cluster.ask(ctx, http.MethodPut, "/v1/services/"+ordersService, nil,
		api.PutService{MaxUnavailable: 1, SettleMs: &settleMs, RestartHoldMs: &holdMs}, nil)
}

// plan begins a plan.
func (d *demo) plan(ctx context.Context, rules api.PlanRules) (id uint64, err error) {
	var made api.PlanStatus
	err = d.cluster.ask(ctx, http.MethodPost, "/v1/plans", nil, api.NewPlan{PlanRules: rules, Start: true}, &made)
	return made.ID, err
}

// rollByPlan lets the cluster restart the service. What a supervisor does is done here: a process that has ended is started again.
func (d *demo) rollByPlan(ctx context.Context) error {
	before := d.load.tally.Counts()
	d.balancer.Watch()
	id, err := d.plan(ctx, api.PlanRules{Intent: api.PlanRestart, Services: []string{ordersService}})
	if err != nil {
		return err
	}
	var codes []int
	var p api.Plan
	err = until(ctx, planLimit, func(ctx context.Context) string {
		for n := range ordersCount {
			if code, gone := d.fleet.gone(appName(n)); gone {
				codes = append(codes, code)
				if err := d.startApp(ctx, appName(n)); err != nil {
					return err.Error()
				}
			}
		}
		if err := d.cluster.get(ctx, fmt.Sprint("/v1/plans/", id), &p); err != nil {
			return err.Error()
		}
		if p.State != api.PlanRunning {
			return ""
		}
		return fmt.Sprintf("%d of %d through, %s", p.Done, p.Total, p.Why)
	})
	if err != nil {
		return err
	}
	if p.State != api.PlanSucceeded {
		return fmt.Errorf("%w: %s, %s", errPlan, p.State, p.Why)
	}
	least := d.balancer.LeastReady()
	d.report.check("a plan restarts the service", len(codes) == ordersCount && allZero(codes) && least >= ordersCount-1,
		"exit codes %v, at least %d of %d ready, %d ms", codes, least, ordersCount, p.RunsForMs)
	d.noneLost("restart by a plan", before)
	return nil
}
