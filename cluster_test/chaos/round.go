package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/cluster_test/harness"
	"github.com/quiescehq/quiesce/cluster_test/history"
)

const (
	ttl         = 1500 * time.Millisecond
	renewEvery  = ttl / 3
	renewWithin = ttl / 3
	lookWithin  = 20 * time.Second
	looks       = 2 // while a round goes on
	lookAfter   = 400 * time.Millisecond
)

// kind is what a round is about.
type kind struct {
	name    string
	clients int
	steps   int // of each client at most
	names   int
	modes   []history.Mode
	counts  bool // owners count
	tickets bool // always waits, through tickets
}

var kinds = []kind{
	{name: "exclusive", clients: 4, steps: 4, names: 1, modes: []history.Mode{history.Exclusive}},
	{name: "shared", clients: 4, steps: 4, names: 1, modes: []history.Mode{history.Exclusive, history.Shared, history.Shared}},
	{name: "permits", clients: 4, steps: 4, names: 1, modes: []history.Mode{history.Permits}},
	{name: "several names", clients: 4, steps: 3, names: 3, modes: []history.Mode{history.Exclusive, history.Exclusive, history.Shared}},
	{name: "reentrant", clients: 3, steps: 3, names: 1, modes: []history.Mode{history.Exclusive}, counts: true},
	{name: "queue", clients: 5, steps: 2, names: 1, modes: []history.Mode{history.Exclusive}, tickets: true},
}

// permits of a semaphore.
const limit = 3

// round is a few clients that contend for names of their own.
type round struct {
	run    *run
	kind   kind
	number uint64
	record *history.Recorder
	names  []string

	mu       sync.Mutex
	live     []string // sessions that are kept alive
	sessions []string // all
}

func newRound(r *run, n uint64) *round {
	p := &round{run: r, kind: kinds[n%uint64(len(kinds))], number: n, record: history.NewRecorder(r.began)}
	for i := range p.kind.names {
		p.names = append(p.names, fmt.Sprintf("chaos/%d/%d/%c", r.o.Seed, n, 'a'+i))
	}
	return p
}

// chance is the dice of one part of the round.
func (p *round) chance(part int) *rand.Rand {
	return rand.New(rand.NewPCG(p.run.o.Seed, p.number<<8|uint64(part)))
}

// play returns when all clients have done their steps and the end was looked at.
func (p *round) play(ctx context.Context) {
	keeping, stop := context.WithCancel(ctx)
	var keeper, clients sync.WaitGroup
	keeper.Go(func() { p.keep(keeping) })
	for i := range p.kind.clients {
		clients.Go(func() { newClient(p, i).live(ctx) })
	}
	observer := newClient(p, p.kind.clients)
	for range looks {
		rest(ctx, time.Duration(observer.rng.Int64N(int64(lookAfter))))
		observer.look(ctx)
	}
	clients.Wait()
	stop()
	keeper.Wait()
	p.renew(ctx, observer.node(), p.silent()) // who fell silent may be gone by now
	observer.look(ctx)
}

func (p *round) opened(session string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.live, p.sessions = append(p.live, session), append(p.sessions, session)
}

// silence ends the keepalives of a session.
func (p *round) silence(session string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.live = slices.DeleteFunc(p.live, func(s string) bool { return s == session })
}

func (p *round) alive() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.live)
}

// silent are the sessions that nobody keeps alive, and nobody has closed.
func (p *round) silent() (out []string) {
	closed := map[string]bool{}
	for _, o := range p.record.History().Ops {
		closed[o.Session] = closed[o.Session] || o.Kind == history.Finish
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sessions {
		if !closed[s] {
			out = append(out, s)
		}
	}
	return out
}

// peer is any session of the round, for a hand-off.
func (p *round) peer(rng *rand.Rand) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sessions[rng.IntN(len(p.sessions))]
}

// keep renews the live sessions together, and asks the next node when one does not answer.
func (p *round) keep(ctx context.Context) {
	ticker := time.NewTicker(renewEvery)
	defer ticker.Stop()
	nodes := slices.Clone(p.run.c.Nodes)
	for at := int(p.number); ; {
		if ids := p.alive(); len(ids) > 0 && !p.renew(ctx, nodes[at%len(nodes)], ids) {
			at++
			rest(ctx, retryEvery)
			if ctx.Err() == nil {
				continue
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// renew sends one keepalive. False: it got no answer that says anything.
func (p *round) renew(ctx context.Context, to *harness.Node, ids []string) bool {
	if len(ids) == 0 {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, renewWithin)
	defer cancel()
	sent := p.record.Now()
	answer, err := p.run.c.Send(ctx, to, harness.Request{Method: http.MethodPost, Path: "/v1/sessions/keepalive", Body: api.KeepaliveSessions{IDs: ids}})
	if err != nil {
		return false
	}
	var leases api.SessionLeases
	switch {
	case answer.Status == http.StatusGone:
		for _, id := range ids {
			leases.Sessions = append(leases.Sessions, api.SessionLease{ID: id, Gone: true})
		}
	case answer.Into(&leases) != nil:
		return false
	}
	for _, l := range leases.Sessions {
		if l.Gone {
			p.silence(l.ID)
			p.record.Add(history.Op{Kind: history.Renew, Session: l.ID, Outcome: history.Gone, Call: sent})
		} else {
			p.record.Renewed(l.ID, time.Duration(l.TTLMs)*time.Millisecond, sent)
		}
	}
	return true
}
