package rolling

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/cluster_test/harness"
	"github.com/quiescehq/quiesce/cluster_test/services"
	"github.com/quiescehq/quiesce/cluster_test/traffic"
)

const (
	service      = "orders"
	program      = "examples/orders"
	appsCount    = 3
	appGrace     = 8 * time.Second
	lameDuck     = time.Second // twenty probes of the balancer: a loaded machine may be late with some
	settle       = 300 * time.Millisecond
	hold         = time.Minute
	perSecondMin = 20 // requests: a run with less traffic has shown nothing
	samplesMin   = 10 // a second, likewise
	complainMax  = 10
)

// Options of a run.
type Options struct {
	Rounds int
	Rate   int // requests a second, at most
}

// Report is the result of a run. The counts of broken requests are of attempts, each of which a client noticed.
type Report struct {
	OK               bool    `json:"ok"`
	Rounds           int     `json:"rounds"`
	Requests         uint64  `json:"requests"`
	Cut              uint64  `json:"cut"`
	Refused          uint64  `json:"refused"`
	Failed           uint64  `json:"failed"`
	TimedOut         uint64  `json:"timed_out"`
	Gated            uint64  `json:"gated"`
	Duplicated       int     `json:"duplicated"`
	Lost             int     `json:"lost"`
	BudgetViolations int     `json:"budget_violations"`
	Samples          int     `json:"samples"`
	Grants           int     `json:"grants"`
	LeastReady       int     `json:"least_ready"`
	Seconds          float64 `json:"seconds"`
	Control          Control `json:"negative_control"`
}

// Control is what the naive server lost.
type Control struct {
	Requests uint64 `json:"requests"`
	Cut      uint64 `json:"cut"`
	Refused  uint64 `json:"refused"`
}

// run is one run.
type run struct {
	t        testing.TB
	c        *harness.Cluster
	places   services.Services
	dir      string
	grace    time.Duration
	more     []string // variables of the instances
	apps     []*App
	balancer *traffic.Balancer
	load     *load
	began    time.Time
	loaded   time.Duration // of which there was a load
	report   Report
	odd      []string // samples that show more out of service than may be
	wrong    int
}

// Run plays a run and judges it. What is wrong fails the test.
func Run(t testing.TB, o Options) Report {
	t.Helper()
	r := &run{t: t, places: services.Require(t), dir: t.TempDir(), began: time.Now(), grace: appGrace, report: Report{Rounds: o.Rounds}}
	r.report.Control = r.control()
	r.c = harness.Start(t, harness.Options{MySQL: r.places.MySQLDSN, Redis: r.places.RedisAddr})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel() // also when a fault ends the test
	r.balancer = traffic.NewBalancer(ctx)
	defer r.balancer.Close()
	r.begin()
	r.load = newLoad(r.balancer, o.Rate)
	defer r.load.close()
	for n := range o.Rounds {
		began := time.Now()
		r.round(ctx)
		c := r.load.tally.Counts()
		t.Logf("round %d of %d took %s: %v", n+1, o.Rounds, time.Since(began).Round(time.Millisecond), c)
	}
	r.judge()
	return r.report
}

// begin declares the service and starts its instances.
func (r *run) begin() {
	r.t.Helper()
	settleMs, holdMs := uint64(settle.Milliseconds()), uint64(hold.Milliseconds())
	r.c.Must(harness.Request{Method: http.MethodPut, Path: "/v1/services/" + service,
		Body: api.PutService{MaxUnavailable: 1, SettleMs: &settleMs, RestartHoldMs: &holdMs, LostHoldMs: &holdMs}}, nil)
	for n := range appsCount {
		r.apps = append(r.apps, r.startApp(fmt.Sprintf("orders-%d", n+1)))
	}
	r.settled()
	r.balancer.Watch()
}

func (r *run) settled() {
	r.t.Helper()
	r.await("all instances to be available", func() string {
		if s := r.service(); s.Available != appsCount {
			return fmt.Sprintf("%d of %d are", s.Available, appsCount)
		}
		return r.balancer.AllReady(appsCount)(r.t.Context())
	})
}

func (r *run) startApp(name string) *App {
	r.t.Helper()
	a := StartApp(r.t, program, r.dir, name, append(append(Environment(r.c, r.grace), r.more...), "QUIESCE_LAME_DUCK="+lameDuck.String(), "ORDERS_HTTP_ADDR=127.0.0.1:0", "ORDERS_MYSQL_DSN="+r.places.MySQLDSN,
		"ORDERS_REDIS_ADDR="+r.places.RedisAddr, "ORDERS_KEY_PREFIX="+r.places.Prefix)...)
	r.balancer.Put(name, a.Base)
	return a
}

// round restarts everything under load, and looks at the log when it is over.
func (r *run) round(ctx context.Context) {
	r.t.Helper()
	sampling, stop := context.WithCancel(ctx)
	var sampler sync.WaitGroup
	defer sampler.Wait()
	defer stop()
	sampler.Go(func() { r.sample(sampling) })
	began := time.Now()
	r.load.start(ctx)
	defer func() { r.load.finish(); r.loaded += time.Since(began) }()
	r.restartApps()
	between := time.Now()
	r.restartNodes()
	r.t.Logf("instances %s, nodes %s", between.Sub(began).Round(time.Millisecond), time.Since(between).Round(time.Millisecond))
}

// restartApps restarts all instances by a plan, and plays the platform: what has exited is started again under its name.
func (r *run) restartApps() {
	r.t.Helper()
	var plan api.PlanStatus
	r.c.Must(harness.Request{Method: http.MethodPost, Path: "/v1/plans",
		Body: api.NewPlan{PlanRules: api.PlanRules{Intent: api.PlanRestart, Services: []string{service}, Reason: "rolling"}, Start: true}}, &plan)
	restarted := 0
	r.await("the plan to succeed", func() string {
		for i, a := range r.apps {
			if !a.Running() {
				if code := a.Wait(r.t, time.Second); code != 0 {
					r.complain("%s exited with %d", a.Name, code)
				}
				r.apps[i] = r.startApp(a.Name)
				restarted++
			}
		}
		var now api.Plan
		r.c.Must(harness.Request{Method: http.MethodGet, Path: fmt.Sprintf("/v1/plans/%d", plan.ID)}, &now)
		switch now.State {
		case api.PlanSucceeded:
			return r.balancer.AllReady(appsCount)(r.t.Context())
		case api.PlanRunning:
			return fmt.Sprintf("%d of %d are through", now.Done, now.Total)
		}
		r.t.Fatalf("the plan is %s: %s", now.State, now.Why)
		return ""
	})
	if restarted != appsCount {
		r.complain("%d instances were restarted", restarted)
	}
}

// restartNodes restarts the nodes one after the other.
func (r *run) restartNodes() {
	r.t.Helper()
	for _, n := range r.c.Nodes {
		n.Term()
		if code := n.Wait(); code != 0 {
			r.complain("%s exited with %d", n.ID, code)
		}
		n.Start()
		r.c.AwaitReady(n)
		r.c.AwaitWhole()
	}
}

func (r *run) service() (s api.Service) {
	r.t.Helper()
	r.c.Must(harness.Request{Method: http.MethodGet, Path: "/v1/services/" + service}, &s)
	return s
}

// await polls until nothing is missing.
func (r *run) await(what string, missing func() string) {
	r.t.Helper()
	r.c.Await(what, func() error {
		if text := missing(); text != "" {
			return fmt.Errorf("%s", text)
		}
		return nil
	})
}

// complain notes what is wrong. Only the goroutine of the test does.
func (r *run) complain(format string, a ...any) {
	r.t.Helper()
	if r.wrong++; r.wrong <= complainMax {
		r.t.Errorf(format, a...)
	}
}

// Line is the report as one line of JSON.
func (r Report) Line() string {
	text, err := json.Marshal(r)
	if err != nil {
		return err.Error() // there is nothing in it that cannot be marshalled
	}
	return string(text)
}
