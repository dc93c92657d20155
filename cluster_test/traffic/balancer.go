package traffic

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

const (
	probeEvery   = 50 * time.Millisecond
	probeTimeout = time.Second
)

// Balancer is the smallest load balancer that there is: it asks each backend for its readiness and gives the ready ones in turn. It knows
// nothing else of them: no retries, no ejection, no warning before a stop.
type Balancer struct {
	ctx    context.Context
	cancel context.CancelFunc
	http   *http.Client
	joined sync.WaitGroup

	mu       sync.Mutex
	backends []*backend
	turn     int
	least    int // ready backends, since the last watch
}

type backend struct {
	name, base string
	ready      bool
	stop       context.CancelFunc
}

// NewBalancer is one without backends. Its pollers end with ctx, or at Close.
func NewBalancer(ctx context.Context) *Balancer {
	b := &Balancer{http: &http.Client{Timeout: probeTimeout}}
	b.ctx, b.cancel = context.WithCancel(ctx)
	return b
}

// Close joins the pollers.
func (b *Balancer) Close() {
	b.cancel()
	b.joined.Wait()
	b.http.CloseIdleConnections()
}

// Put adds a backend, or replaces the one of that name.
func (b *Balancer) Put(name, base string) {
	ctx, stop := context.WithCancel(b.ctx)
	fresh := &backend{name: name, base: base, stop: stop}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, old := range b.backends {
		if old.name == name {
			old.stop()
			b.backends[i] = fresh
			b.joined.Go(func() { b.probe(ctx, fresh) })
			return
		}
	}
	b.backends = append(b.backends, fresh)
	b.joined.Go(func() { b.probe(ctx, fresh) })
}

func (b *Balancer) probe(ctx context.Context, to *backend) {
	ticker := time.NewTicker(probeEvery)
	defer ticker.Stop()
	for {
		ready := b.isReady(ctx, to.base)
		b.mu.Lock()
		to.ready = ready
		b.least = min(b.least, b.readyLocked())
		b.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (b *Balancer) isReady(ctx context.Context, base string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/readyz", nil)
	if err != nil {
		return false
	}
	response, err := b.http.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode == http.StatusOK
}

func (b *Balancer) readyLocked() (n int) {
	for _, one := range b.backends {
		if one.ready {
			n++
		}
	}
	return n
}

// Pick gives the next ready backend, another one than avoid if there is one.
func (b *Balancer) Pick(avoid string) (base string, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range b.backends {
		b.turn = (b.turn + 1) % len(b.backends)
		if next := b.backends[b.turn]; next.ready && (next.base != avoid || b.readyLocked() == 1) {
			return next.base, true
		}
	}
	return "", false
}

// Watch begins to note the least number of ready backends anew.
func (b *Balancer) Watch() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.least = b.readyLocked()
}

// LeastReady is the least number of ready backends since the last Watch.
func (b *Balancer) LeastReady() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.least
}

// AllReady tells what is missing until n backends are ready.
func (b *Balancer) AllReady(n int) func(context.Context) string {
	return func(context.Context) string {
		b.mu.Lock()
		defer b.mu.Unlock()
		if ready := b.readyLocked(); ready < n {
			return fmt.Sprintf("%d of %d instances are ready", ready, n)
		}
		return ""
	}
}
