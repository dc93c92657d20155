package reconcile

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/mysql"
	"github.com/quiescehq/quiesce/rediscache"
)

// hookedSource calls before each read with the number of the call, from 1. An error is what the caller gets.
type hookedSource struct {
	Source
	calls   atomic.Int64
	onChunk func(ctx context.Context, call int) error
	onRows  func(ctx context.Context, call int) error
	threads func() int // running
}

func (s *hookedSource) ReadPart(ctx context.Context, m *mapping.Mapping, part mysql.Part, after []string, limit int) (mysql.Chunk, error) {
	if s.onChunk != nil {
		if err := s.onChunk(ctx, int(s.calls.Add(1))); err != nil {
			return mysql.Chunk{}, err
		}
	}
	return s.Source.ReadPart(ctx, m, part, after, limit)
}

func (s *hookedSource) ThreadsRunning(ctx context.Context) (int, error) {
	if s.threads != nil {
		return s.threads(), nil
	}
	return s.Source.ThreadsRunning(ctx)
}

func (s *hookedSource) ReadRows(ctx context.Context, m *mapping.Mapping, pks [][]string) (map[string]*mapping.Row, error) {
	if s.onRows != nil {
		if err := s.onRows(ctx, int(s.calls.Add(1))); err != nil {
			return nil, err
		}
	}
	return s.Source.ReadRows(ctx, m, pks)
}

// hookedTarget calls before each read, and lets the answer be changed after it.
type hookedTarget struct {
	Target
	calls   atomic.Int64
	before  func(ctx context.Context, call int) error
	after   func(call int, requests []rediscache.KeyRequest, actuals []mapping.Actual)
	latency func() time.Duration
}

func (t *hookedTarget) Latency(ctx context.Context) (time.Duration, error) {
	if t.latency != nil {
		return t.latency(), nil
	}
	return t.Target.Latency(ctx)
}

func (t *hookedTarget) Read(ctx context.Context, requests []rediscache.KeyRequest) ([]mapping.Actual, error) {
	call := int(t.calls.Add(1))
	if t.before != nil {
		if err := t.before(ctx, call); err != nil {
			return nil, err
		}
	}
	actuals, err := t.Target.Read(ctx, requests)
	if err == nil && t.after != nil {
		t.after(call, requests, actuals)
	}
	return actuals, err
}

func (w *world) hookSource(h *hookedSource) func(*Parts) {
	h.Source = w.source
	return func(p *Parts) { p.Sources = map[string]Source{"shop": h} }
}

func (w *world) hookTarget(h *hookedTarget) func(*Parts) {
	h.Target = w.target
	return func(p *Parts) { p.Targets = map[string]Target{"cache": h} }
}

// gate stops calls from the given one on until it is opened.
type gate struct {
	from    int
	reached chan struct{} // closed by the first call that is stopped
	open    chan struct{}
	hit     atomic.Bool
}

func newGate(from int) *gate {
	return &gate{from: from, reached: make(chan struct{}), open: make(chan struct{})}
}

func (g *gate) pass(ctx context.Context, call int) error {
	if call < g.from {
		return nil
	}
	if g.hit.CompareAndSwap(false, true) {
		close(g.reached)
	}
	select {
	case <-g.open:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
