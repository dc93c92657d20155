package syncchaos

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/cluster_test/harness"
	"github.com/quiescehq/quiesce/cluster_test/syncchaos/writer"
)

// EnvRole is set for a process that is to be the application.
const EnvRole = "QUIESCE_SYNCCHAOS_WRITER"

const (
	appsCount   = 3
	appTTL      = 2 * time.Second
	appGrace    = 10 * time.Second
	exitWithin  = appGrace + 15*time.Second
	queryWithin = 20 * time.Second
	goOnWithin  = 60 * time.Second
	goOnCommits = 15 // that the applications make after a fault before the next one comes
)

// What an application exits with when all is well, and when it was counted as lost or leaves something.
const (
	exitClean     = 0
	exitLeftovers = 75
)

// instance is an application that is started again when it has ended, as a platform does.
type instance struct {
	*harness.Process
	name string
	life int
	log  string
	ends bool // a signal was sent that ends it
}

// startApps declares the service, so that nobody waits for others when it stops, and starts the applications.
func (r *run) startApps() {
	r.t.Helper()
	none := uint64(0)
	r.world.c.Must(harness.Request{Method: http.MethodPut, Path: "/v1/services/" + writer.Service,
		Body: api.PutService{MaxUnavailable: appsCount, SettleMs: &none, RestartHoldMs: &none, LostHoldMs: &none}}, nil)
	for n := range appsCount {
		r.apps = append(r.apps, &instance{name: fmt.Sprintf("w%d", n+1), log: filepath.Join(r.world.dir, fmt.Sprintf("w%d.log", n+1))})
		r.start(r.apps[n])
	}
	r.t.Cleanup(func() {
		for _, a := range r.apps {
			if strings.Contains(a.Output(), "WARNING: DATA RACE") {
				r.t.Errorf("%s has a data race:\n%s", a.name, a.Output())
			}
		}
	})
	r.goOn()
}

// start begins another life of an application, which knows the nodes in an order of its own.
func (r *run) start(a *instance) {
	r.t.Helper()
	a.life++
	a.ends = false
	addrs := r.world.c.Addrs()
	r.rng.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
	life := fmt.Sprintf("%s-%d", a.name, a.life)
	a.Process = harness.Exec(r.t, r.o.Writer, a.log, []string{EnvRole + "=1", "QUIESCE_ADDRS=" + strings.Join(addrs, ","), "QUIESCE_INSTANCE=" + a.name,
		"QUIESCE_LEASE_TTL=" + appTTL.String(), "QUIESCE_GRACE=" + appGrace.String(), "QUIESCE_PLATFORM=none",
		writer.EnvDSN + "=" + r.world.mysql.MySQLDSN, writer.EnvLife + "=" + life, writer.EnvLedger + "=" + filepath.Join(r.world.dir, life+".ledger"),
		fmt.Sprintf("%s=%d", writer.EnvSeed, r.rng.Uint64())})
}

// tend starts what has ended. Nothing ends without a reason: by a fault, or because it was stopped for so long that it was counted as lost.
func (r *run) tend() {
	r.t.Helper()
	for _, a := range r.apps {
		if a.Running() {
			continue
		}
		code := a.Wait(r.t, time.Second)
		if !a.ends && code != exitLeftovers {
			r.complain("%s ended by itself with code %d:\n%s", a.name, code, tailOf(a.Output()))
		}
		r.start(a)
	}
}

const tailLines = 20

func tailOf(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-tailLines):], "\n")
}

// rest lets time pass, in which applications that have ended are started again.
func (r *run) rest(d time.Duration) {
	r.t.Helper()
	over := time.NewTimer(d)
	defer over.Stop()
	every := time.NewTicker(tendEvery)
	defer every.Stop()
	for {
		r.tend()
		select {
		case <-every.C:
		case <-over.C:
			return
		}
	}
}

const tendEvery = 200 * time.Millisecond // what has ended stays so for a moment

var errStill = errors.New("too few transactions are committed")

// goOn waits until the applications commit again, in each tier.
func (r *run) goOn() {
	r.t.Helper()
	from, begun := 0, false
	harness.Eventually(r.t, goOnWithin, "the applications to commit", func() (err error) {
		r.tend()
		if !begun {
			if from, err = r.world.count("SELECT COALESCE(MAX(seq), 0) FROM journal"); err != nil {
				return err
			}
			begun = true
		}
		for tier := 1; tier <= writer.Tiers; tier++ {
			n, err := r.world.count(fmt.Sprintf("SELECT COUNT(*) FROM journal WHERE seq > %d AND k LIKE '%s%%'", from, writer.PrefixJSON(tier)))
			if err == nil && n < goOnCommits {
				err = fmt.Errorf("%w: %d in tier %d", errStill, n, tier)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// endApps ends one application in order and the others in the middle of what they do.
func (r *run) endApps() {
	r.t.Helper()
	r.tend()
	order := r.rng.Perm(len(r.apps))
	for i, n := range order {
		signal := syscall.SIGKILL
		if i == 0 {
			signal = syscall.SIGTERM
		}
		r.signal(r.apps[n], signal)
	}
	for _, a := range r.apps {
		if code := a.Wait(r.t, exitWithin); !slices.Contains([]int{exitClean, exitLeftovers, -1}, code) {
			r.complain("%s exited with %d", a.name, code)
		}
	}
}

func (r *run) signal(a *instance, s syscall.Signal) {
	r.t.Helper()
	a.ends = a.ends || s == syscall.SIGKILL || s == syscall.SIGTERM
	if err := a.Signal(s); err != nil {
		r.t.Fatal(err)
	}
}
