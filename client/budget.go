package client

import (
	"errors"
	"fmt"
	"time"

	"github.com/quiescehq/quiesce/api"
)

// Phase is one step of a drain. The order is fixed; each has a time limit of its own and is reported to the coordinator.
type Phase string

const (
	PhaseAnnounce     Phase = "announce"     // ask for a place in the service's disruption budget; still serving
	PhaseLameDuck     Phase = "lameduck"     // not ready, still serving: balancers notice
	PhaseReject       Phase = "reject"       // refuse new requests, end streams, wait for the requests under way
	PhaseConsumers    Phase = "consumers"    // end background work
	PhaseTransactions Phase = "transactions" // wait for open transactions
	PhaseFlush        Phase = "flush"        // save what only this process has
	PhaseLocks        Phase = "locks"        // give the locks back: the point of no return
	PhaseClose        Phase = "close"        // close the HTTP servers, and pools
	PhaseLeave        Phase = "leave"        // say goodbye
)

const (
	// GraceDefault fits Kubernetes' 30 s with some slack.
	GraceDefault = api.GraceDefaultMs * time.Millisecond
	// GraceMin is the shortest grace that leaves each phase enough time to do anything.
	GraceMin = api.GraceMinMs * time.Millisecond
	// GraceMax is the longest.
	GraceMax = api.GraceMaxMs * time.Millisecond
)

// slackPart is the part of the grace that the default phases leave for the coordinator's clock to tick.
const slackPart = 25

// ErrGrace says that the phases do not fit into the time that the platform gives.
var ErrGrace = errors.New("client: the drain does not fit into the grace period")

// budget is the time limit of each phase, scaled to the grace of the platform.
type budget struct {
	grace time.Duration
	limit map[Phase]time.Duration
}

// newBudget scales the phases. A lameDuck above 0 replaces the scaled one: how long balancers need to notice does not depend on the grace.
func newBudget(grace, lameDuck time.Duration) (budget, error) {
	if grace < GraceMin || grace > GraceMax {
		return budget{}, fmt.Errorf("%w: it is %v, and must be between %v and %v", ErrGrace, grace, GraceMin, GraceMax)
	}
	b := budget{grace: grace, limit: make(map[Phase]time.Duration, len(api.PhaseDefaults))}
	scale := float64(grace) / float64(GraceDefault)
	for _, p := range api.PhaseDefaults {
		b.limit[Phase(p.Phase)] = time.Duration(float64(p.LimitMs) * min(1, scale) * float64(time.Millisecond))
	}
	if lameDuck > 0 {
		b.limit[PhaseLameDuck] = lameDuck
	}
	if sum := b.phases(); sum > grace {
		return budget{}, fmt.Errorf("%w: the phases need %v of %v", ErrGrace, sum, grace)
	}
	return b, nil
}

// phases is the time that a drain needs after its grant.
func (b budget) phases() time.Duration {
	var sum time.Duration
	for _, d := range b.limit {
		sum += d
	}
	return sum
}

// announce is how long a drain that the platform asked for may wait for its grant.
func (b budget) announce() time.Duration { return b.grace - b.phases() }

// slack is what the coordinator may be late with a grant: a second, of the default grace.
func (b budget) slack() time.Duration { return min(time.Second, b.grace/slackPart) }

// times is what the coordinator is told.
func (b budget) times() []api.PhaseTime {
	out := make([]api.PhaseTime, len(api.PhaseDefaults))
	for i, p := range api.PhaseDefaults {
		out[i] = api.PhaseTime{Phase: p.Phase, LimitMs: millis(b.limit[Phase(p.Phase)])}
	}
	return out
}

// place is where a phase stands in the order, from 0, or -1 for one that a task cannot run in: announce may not happen, and leave is the
// last word.
func (p Phase) place() int {
	for i, other := range api.PhaseDefaults {
		if Phase(other.Phase) == p && p != PhaseLeave {
			return i
		}
	}
	return -1
}
