package rolling

import (
	"context"
	"math/rand/v2"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/cluster_test/harness"
	"github.com/quiescehq/quiesce/cluster_test/services"
	"github.com/quiescehq/quiesce/cluster_test/traffic"
)

const (
	crashGrace = 40 * time.Second // leaves those that are not killed the time to wait for their grant
	crashTTL   = "1500ms"
	crashRate  = 150
	drainLasts = 1200 * time.Millisecond // about: the kill comes anywhere in it
)

// Crashes kills instances at random under load, at once or in the midst of a drain, while another one of them wants to stop too. Nothing that
// was acknowledged may be lost or done twice, and no drain may be granted beyond the budget because of it.
func Crashes(t testing.TB, kills int, seed uint64) {
	t.Helper()
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 0))
	r := &run{t: t, places: services.Require(t), dir: t.TempDir(), began: time.Now(), grace: crashGrace, more: []string{"QUIESCE_LEASE_TTL=" + crashTTL}}
	r.c = harness.Start(t, harness.Options{MySQL: r.places.MySQLDSN, Redis: r.places.RedisAddr})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r.balancer = traffic.NewBalancer(ctx)
	defer r.balancer.Close()
	r.begin()
	r.load = newLoad(r.balancer, crashRate)
	defer r.load.close()
	r.load.start(ctx)
	for range kills {
		r.crash(ctx, dice)
	}
	r.load.finish()
	c := r.load.tally.Counts()
	t.Logf("%v", c)
	r.judgeLedger()
	r.check(r.report.Duplicated == 0 && r.report.Lost == 0, "every acknowledged request is committed once: %d lost, %d twice", r.report.Lost, r.report.Duplicated)
	r.check(c.Failed == 0 && c.OK > 0, "every request succeeds in the end: %v", c)
	lives, err := Lives(r.c, service)
	if err != nil {
		t.Fatal(err)
	}
	s := r.service()
	grants, wrong := Overspent(lives, s)
	for _, why := range wrong {
		r.complain("%s", why)
	}
	r.check(s.Drains.Lost > 0 && int(s.Drains.Lost) <= kills && s.Drains.Forced == 0, "kills are losses, but for one that came after the last word: %+v", s.Drains)
	r.check(int(s.Drains.Grants-s.Drains.Overdrafts) == grants, "every grant was looked at: %d of %+v", grants, s.Drains)
}

// crash kills one instance, half of the time in a drain, beside another one that stops in order. Both are started again.
func (r *run) crash(ctx context.Context, dice *rand.Rand) {
	r.t.Helper()
	order := dice.Perm(len(r.apps))
	dies, stops := order[0], order[1]
	if dice.IntN(2) == 0 {
		r.signal(dies, syscall.SIGTERM)
		pause(ctx, time.Duration(dice.Int64N(int64(drainLasts))))
	}
	if !r.apps[dies].Running() { // it was quicker: a kill is to come of it all the same
		r.again(dies)
		r.settled()
	}
	r.signal(dies, syscall.SIGKILL)
	r.signal(stops, syscall.SIGTERM)
	r.apps[dies].Wait(r.t, crashGrace)
	r.awaitLost(dies)
	r.again(dies)
	if code := r.apps[stops].Wait(r.t, crashGrace+time.Second); code != 0 {
		r.complain("%s exited with %d", r.apps[stops].Name, code)
	}
	r.again(stops)
	r.settled()
}

func (r *run) signal(i int, s syscall.Signal) {
	r.t.Helper()
	if err := r.apps[i].Signal(s); err != nil {
		r.t.Fatal(err)
	}
}

func (r *run) again(i int) { r.t.Helper(); r.apps[i] = r.startApp(r.apps[i].Name) }

// awaitLost waits until the cluster has noticed: a successor that came earlier would be what ends it.
func (r *run) awaitLost(i int) {
	r.t.Helper()
	r.await(r.apps[i].Name+" to be lost", func() string {
		var page api.Instances
		r.c.Must(harness.Request{Method: http.MethodGet, Path: "/v1/instances?limit=1000&service=" + service}, &page)
		for _, v := range page.Instances {
			if v.Name == r.apps[i].Name && v.State != api.StateLost && v.State != api.StateLeft {
				return "it is " + v.State
			}
		}
		return ""
	})
}
