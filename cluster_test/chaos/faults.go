package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/cluster_test/harness"
)

const (
	calm        = 700 * time.Millisecond // between faults, in which the system must get along
	cutFor      = 2 * time.Second        // longer than the sessions' TTL and several elections
	pauseFor    = ttl + time.Second
	downFor     = 300 * time.Millisecond
	electWithin = 20 * time.Second
	transfers   = 5 // attempts: the successor may have fallen behind in the crowd
)

// fault does something to the cluster, waits until it has had its effect, and ends it. It answers what the effect was.
type fault struct {
	name    string
	inflict func(r *run, ctx context.Context) string
}

var faults = []fault{
	{"kill -9 of the leader", (*run).killLeader},
	{"kill -9 of a follower", (*run).killFollower},
	{"leader stopped for longer than the TTL", (*run).pauseLeader},
	{"one-way partition: nobody hears the leader", (*run).muteLeader},
	{"one-way partition: the leader hears nobody", (*run).deafenLeader},
	{"two-way partition of the leader", (*run).isolateLeader},
	{"two-way partition of a follower", (*run).isolateFollower},
	{"leadership transfer", (*run).transferLeader},
	{"restart of all nodes", (*run).restartAll},
}

// inflict brings each fault once, in any order, and again until the time is over.
func (r *run) inflict(ctx context.Context, rng *rand.Rand) {
	for first := true; first || time.Since(r.began) < r.o.For; first = false {
		for _, i := range rng.Perm(len(faults)) {
			if !first && time.Since(r.began) >= r.o.For {
				return
			}
			rest(ctx, calm)
			f := faults[i]
			at := time.Since(r.began).Round(time.Millisecond)
			effect := f.inflict(r, ctx)
			r.c.AwaitReady()
			r.t.Logf("%s after %s: %s", f.name, at, effect)
			r.mu.Lock()
			r.faults[f.name]++
			r.mu.Unlock()
		}
	}
	rest(ctx, calm)
}

// rest lets time pass.
func rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

var errSameLeader = errors.New("it is not so yet")

// succeeded waits until some nodes know of another leader, in a later term, and says which.
func (r *run) succeeded(before api.Cluster, among []*harness.Node) string {
	return r.later(before, among, func(now api.Cluster) bool { return now.Leader != before.Leader })
}

func (r *run) later(before api.Cluster, among []*harness.Node, wanted func(api.Cluster) bool) string {
	var now api.Cluster
	harness.Eventually(r.t, electWithin, fmt.Sprintf("another leader than %s in term %d", before.Leader, before.Term), func() error {
		for _, n := range among {
			answer, err := r.c.Send(r.t.Context(), n, harness.Request{Method: http.MethodGet, Path: "/v1/cluster?consistency=stale"})
			if err == nil && answer.Into(&now) == nil && now.Term > before.Term && now.Leader != "" && wanted(now) {
				return nil
			}
		}
		return errSameLeader
	})
	return fmt.Sprintf("%s leads in term %d after %s in term %d", now.Leader, now.Term, before.Leader, before.Term)
}

// leader is the node that leads, and the cluster as it sees it.
func (r *run) leader() (*harness.Node, api.Cluster) {
	status := r.c.AwaitStatus("a leader", func(s api.Cluster) bool { return s.Leader != "" && s.Node == s.Leader })
	return r.c.Node(status.Leader), status
}

func (r *run) killLeader(context.Context) string {
	leader, before := r.leader()
	leader.Kill()
	effect := r.succeeded(before, r.c.Others(leader))
	leader.Start()
	return effect
}

func (r *run) killFollower(ctx context.Context) string {
	follower := r.c.Follower()
	follower.Kill()
	rest(ctx, downFor)
	follower.Start()
	return follower.ID + " died and came back"
}

func (r *run) pauseLeader(ctx context.Context) string {
	leader, before := r.leader()
	leader.Pause()
	defer leader.Resume()
	rest(ctx, pauseFor)
	return r.succeeded(before, r.c.Others(leader))
}

func (r *run) muteLeader(ctx context.Context) string    { return r.cutLeader(ctx, true, false) }
func (r *run) deafenLeader(ctx context.Context) string  { return r.cutLeader(ctx, false, true) }
func (r *run) isolateLeader(ctx context.Context) string { return r.cutLeader(ctx, true, true) }

// cutLeader cuts the leader off until the others have another one.
func (r *run) cutLeader(ctx context.Context, out, in bool) string {
	leader, before := r.leader()
	heal := r.cut(leader, out, in)
	rest(ctx, cutFor)
	effect := r.succeeded(before, r.c.Others(leader))
	return heal() + "; " + effect
}

func (r *run) isolateFollower(ctx context.Context) string {
	heal := r.cut(r.c.Follower(), true, true)
	rest(ctx, cutFor)
	return heal()
}

// cut stalls what a node says to all others, what they say to it, or both, until heal, which says what that held back: nothing is no cut.
func (r *run) cut(n *harness.Node, out, in bool) (heal func() string) {
	type link struct{ from, to string }
	var links []link
	for _, other := range r.c.Others(n) {
		if out {
			links = append(links, link{n.ID, other.ID})
		}
		if in {
			links = append(links, link{other.ID, n.ID})
		}
	}
	held := func() (sum int64) {
		for _, l := range links {
			sum += r.c.Links.Held(l.from, l.to)
		}
		return sum
	}
	before := held()
	for _, l := range links {
		r.c.Links.Stall(l.from, l.to)
	}
	return func() string {
		bytes := held() - before
		r.c.Links.HealAll()
		if bytes == 0 {
			r.t.Fatalf("cutting %s off held back nothing", n.ID)
		}
		return fmt.Sprintf("%d bytes from or to %s were held back", bytes, n.ID)
	}
}

func (r *run) transferLeader(context.Context) string {
	leader, before := r.leader()
	for range transfers {
		answer, err := r.c.Send(r.t.Context(), leader, harness.Request{Method: http.MethodPost, Path: "/v1/cluster/transfer"})
		if err == nil && answer.Into(nil) == nil {
			break
		}
	}
	return r.succeeded(before, r.c.Nodes)
}

func (r *run) restartAll(context.Context) string {
	_, before := r.leader()
	for _, n := range r.c.Nodes {
		n.Kill()
	}
	for _, n := range r.c.Nodes {
		n.Start()
	}
	return r.later(before, r.c.Nodes, func(api.Cluster) bool { return true })
}
