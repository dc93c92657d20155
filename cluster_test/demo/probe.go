package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/quiescehq/quiesce/api"
)

const (
	probeWriteEvery = 20 * time.Millisecond
	probeWriteLimit = 700 * time.Millisecond // of one attempt
	probeSessionTTL = 2 * time.Minute        // longer than it runs: its session needs no keepalive
	pageRows        = 1_000
)

// gapProbe writes without a break, through each of some nodes, and remembers when writes were acknowledged and what they made: locks of a
// session that nobody gives back.
type gapProbe struct {
	cluster *cluster
	name    string
	session string

	stop   context.CancelFunc
	ending chan struct{}
	joined sync.WaitGroup

	mu     sync.Mutex
	times  []time.Time
	tokens map[string]uint64 // lock to token, as acknowledged
	failed error
}

// startProbe opens the session and begins to write.
func startProbe(ctx context.Context, c *cluster, name string, through []node) (*gapProbe, error) {
	p := &gapProbe{cluster: c, name: name, ending: make(chan struct{}), tokens: map[string]uint64{}}
	var opened api.Session
	header := http.Header{api.HeaderIdempotencyKey: {"demo-probe-" + name}}
	if err := c.ask(ctx, http.MethodPost, "/v1/sessions", header, api.OpenSession{Name: "demo probe", TTLMs: uint64(probeSessionTTL.Milliseconds())}, &opened); err != nil {
		return nil, fmt.Errorf("open the probe's session: %w", err)
	}
	p.session = opened.ID
	ctx, p.stop = context.WithCancel(ctx)
	for _, n := range through {
		p.joined.Go(func() { p.write(ctx, n) })
	}
	return p, nil
}

// write takes one lock after another. A write that got no answer is repeated under its key until it has one.
func (p *gapProbe) write(ctx context.Context, n node) {
	ticker := time.NewTicker(probeWriteEvery)
	defer ticker.Stop()
	for seq := uint64(1); ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		token, err := p.acquire(ctx, n, seq)
		if err != nil {
			p.fail(err)
			continue
		}
		p.acknowledge(p.lock(n, seq), token)
		seq++
		select {
		case <-p.ending:
			return
		default:
		}
	}
}

func (p *gapProbe) prefix() string { return "demo/probe/" + p.name + "/" }
func (p *gapProbe) lock(n node, seq uint64) string {
	return p.prefix() + n.ID + "/" + strconv.FormatUint(seq, 10)
}

func (p *gapProbe) acquire(ctx context.Context, n node, seq uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, probeWriteLimit)
	defer cancel()
	number := strconv.FormatUint(seq, 10)
	header := http.Header{api.HeaderIdempotencyKey: {"demo-probe-" + p.name + "-" + n.ID + "/" + number}, api.HeaderIdempotencyAcked: {number}}
	var got api.Acquired
	body := api.AcquireLocks{Session: p.session, Locks: []api.LockWanted{{Name: p.lock(n, seq)}}}
	if err := p.cluster.call(ctx, n, http.MethodPost, "/v1/locks/acquire", header, body, &got); err != nil {
		return 0, err
	}
	if len(got.Grants) != 1 {
		return 0, fmt.Errorf("%w: a free lock was answered with %d grants", errAnswer, len(got.Grants))
	}
	return got.Grants[0].Token, nil
}

func (p *gapProbe) acknowledge(lock string, token uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.times = append(p.times, time.Now())
	p.tokens[lock] = token
}

func (p *gapProbe) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed = err
}

// count is the number of acknowledged writes so far.
func (p *gapProbe) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.times)
}

// finish lets each writer complete its last write, within limit, and gives the longest time between two acknowledgements.
func (p *gapProbe) finish(limit time.Duration) (time.Duration, error) {
	close(p.ending)
	force := time.AfterFunc(limit, p.stop)
	p.joined.Wait()
	if !force.Stop() {
		return 0, fmt.Errorf("%w: the probe's last write had no success in %v: %w", errWaited, limit, p.failed)
	}
	return longestGap(p.times), nil
}

func longestGap(times []time.Time) (longest time.Duration) {
	times = slices.SortedFunc(slices.Values(times), time.Time.Compare)
	for i := 1; i < len(times); i++ {
		longest = max(longest, times[i].Sub(times[i-1]))
	}
	return longest
}

// close ends the writers, whatever they are at. It does no harm after finish.
func (p *gapProbe) close() {
	p.stop()
	p.joined.Wait()
}

// lost reads all of the probe's locks and counts the acknowledged ones that are not there as they were acknowledged. Then it ends the session.
func (p *gapProbe) lost(ctx context.Context) (lost int, err error) {
	present, err := p.read(ctx)
	if err != nil {
		return 0, err
	}
	for name, token := range p.tokens {
		if held := present[name].Holders; len(held) != 1 || held[0].Token != token || held[0].Session != p.session {
			lost++
		}
	}
	header := http.Header{api.HeaderIdempotencyKey: {"demo-probe-end-" + p.name}}
	return lost, p.cluster.ask(ctx, http.MethodDelete, "/v1/sessions/"+p.session, header, nil, nil)
}

func (p *gapProbe) read(ctx context.Context) (map[string]api.Lock, error) {
	present := map[string]api.Lock{}
	query := url.Values{"prefix": {p.prefix()}, "limit": {strconv.Itoa(pageRows)}}
	for {
		var page api.Locks
		if err := p.cluster.get(ctx, "/v1/locks?"+query.Encode(), &page); err != nil {
			return nil, err
		}
		for _, l := range page.Locks {
			present[l.Name] = l
		}
		if page.Cursor == "" {
			return present, nil
		}
		query.Set("cursor", page.Cursor)
	}
}
