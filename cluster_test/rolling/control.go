package rolling

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/quiescehq/quiesce/cluster_test/harness"
	"github.com/quiescehq/quiesce/cluster_test/traffic"
)

const (
	// AppProgram is a small application for tests: with the SDK, or naive.
	AppProgram    = "cluster_test/rolling/app"
	controlStops  = 5
	controlBefore = 100 // requests before each stop
	controlRate   = 600 // a second: there is no MySQL behind it
)

// control restarts servers that call Shutdown as soon as the signal comes, before the same balancer and the same clients.
func (r *run) control() Control {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	balancer := traffic.NewBalancer(ctx)
	defer balancer.Close()
	start := func(name string) *App {
		a := StartApp(r.t, AppProgram, r.dir, name, "APP_ROLE=naive")
		balancer.Put(name, a.Base)
		return a
	}
	apps := make([]*App, appsCount)
	for i := range apps {
		apps[i] = start(fmt.Sprintf("naive-%d", i+1))
	}
	l := newLoad(balancer, controlRate)
	defer l.close()
	l.start(ctx)
	defer l.finish()
	for n := range controlStops {
		served := l.tally.Counts().OK
		harness.Eventually(r.t, harness.ReadyWithin, "requests to be served", func() error {
			if c := l.tally.Counts(); c.OK < served+controlBefore || balancer.AllReady(appsCount)(ctx) != "" {
				return fmt.Errorf("%v", c)
			}
			return nil
		})
		a := apps[n%appsCount]
		if err := a.Signal(syscall.SIGTERM); err != nil {
			r.t.Fatal(err)
		}
		a.Wait(r.t, 10*time.Second)
		apps[n%appsCount] = start(a.Name)
	}
	c := l.tally.Counts()
	return Control{Requests: c.OK + c.Failed, Cut: c.Cut, Refused: c.Refused}
}
