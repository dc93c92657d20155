package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"sync"

	"github.com/quiescehq/quiesce/api"
)

const (
	batchOps   = 256       // a quarter of the keys that may be outstanding
	batchBytes = 256 << 10 // then no more is added; one operation has some 60 KiB at most, so that api.BodyBytesMax is kept
	opsWaiting = 100_000   // of one process
	yieldsMax  = 16        // before a request leaves
)

// ErrBacklog says that too many operations of this process wait to be sent.
var ErrBacklog = errors.New("client: too many operations wait to be sent")

// batches makes one request of the operations that come while another request is on its way: under load requests grow instead of becoming
// more, and an operation on its own waits for nothing. One batch is one entry of the cluster's log, so that an unknown outcome is that of
// all its operations, and all are sent again, each under its own key. Requests run in a goroutine of their own: no caller's context can end
// what others wait for.
//
// There is one request on its way at a time. So what was asked first is applied first, also when its caller did not wait; and two or three
// at a time, measured on nodes that share a machine, made no more locks a second but cost more of each.
type batches struct {
	client *Client

	mu      sync.Mutex
	waiting []*op
	running bool
	closed  bool
}

// do sends an operation and waits for its outcome as long as ctx allows.
func (b *batches) do(ctx context.Context, o *op) error {
	if ctx.Err() != nil && !o.sticky {
		return giveUp(o.name, 0, false, nil, context.Cause(ctx))
	}
	if err := b.add(o); err != nil {
		return err
	}
	return b.wait(ctx, o)
}

// add sends an operation without waiting for it.
func (b *batches) add(ops ...*op) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return fmt.Errorf("%w: %w", ErrUnavailable, ErrClosed)
	case len(b.waiting)+len(ops) > opsWaiting:
		return fmt.Errorf("%w: %w", ErrUnavailable, ErrBacklog)
	}
	b.waiting = append(b.waiting, ops...)
	if !b.running {
		b.running = true
		b.client.joined.Go(b.run)
	}
	return nil
}

// fire sends an operation that nobody waits for.
func (b *batches) fire(o *op) {
	o.orphan, o.sticky = true, true
	if err := b.add(o); err != nil {
		b.client.log.Warn("an operation could not be sent", "op", o.name, "error", err)
	}
}

func (b *batches) wait(ctx context.Context, o *op) error {
	select {
	case <-o.done:
		return o.err
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case o.finished:
		return o.err
	case !o.taken && !o.sticky:
		b.waiting = slices.DeleteFunc(b.waiting, func(other *op) bool { return other == o })
		o.finished, o.err = true, giveUp(o.name, 0, false, nil, context.Cause(ctx))
		close(o.done)
		return o.err
	}
	o.orphan = true
	return giveUp(o.name, 1, true, nil, context.Cause(ctx))
}

// surelyNotApplied tells whether an operation is over and has changed nothing.
func (b *batches) surelyNotApplied(o *op) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return o.finished && errors.Is(o.err, ErrUnavailable)
}

// close refuses later operations, so that Client.Close can wait for the goroutines.
func (b *batches) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
}

func (b *batches) run() {
	for {
		ops := b.take()
		if len(ops) == 0 {
			return
		}
		ops = b.number(ops)
		came := b.send(ops)
		b.gather(came + len(ops))
	}
}

// gather lets those who were just answered ask for the next, as many do at once, so that they travel together with those who came
// meanwhile: it gives way until that many wait, or a few times. That takes microseconds.
func (b *batches) gather(expected int) {
	for range yieldsMax {
		if b.backlog() >= min(expected, batchOps) {
			return
		}
		runtime.Gosched()
	}
}

func (b *batches) backlog() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting)
}

// take removes as many operations as fit into one request, and ends the running when there are none.
func (b *batches) take() []*op {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) == 0 {
		b.running = false
		return nil
	}
	n, size := 0, 0
	for n < min(len(b.waiting), batchOps) && size < batchBytes {
		o := b.waiting[n]
		o.taken = true
		size += o.size()
		n++
	}
	ops := slices.Clone(b.waiting[:n])
	b.waiting = slices.Delete(b.waiting, 0, n)
	return ops
}

// putBack returns operations to the head of the line.
func (b *batches) putBack(ops []*op) {
	if len(ops) == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, o := range ops {
		o.taken = false
	}
	b.waiting = slices.Insert(b.waiting, 0, ops...)
}

// number gives keys to the operations that have none: to as many as may be outstanding, but at least one.
func (b *batches) number(ops []*op) []*op {
	for i, o := range ops {
		if o.seq != 0 {
			continue
		}
		o.seq, _ = b.client.keys.tryTake()
		if o.seq == 0 && i == 0 {
			o.seq, _ = b.client.keys.take(b.client.life) // fails when the client is closed; then the sending does as well
		}
		if o.seq == 0 && i > 0 {
			b.putBack(ops[i:])
			return ops[:i]
		}
	}
	return ops
}

// send makes one request of the operations, and tells how many others came meanwhile.
func (b *batches) send(ops []*op) int {
	size := 0
	for _, o := range ops {
		size += o.size()
	}
	payload := append(make([]byte, 0, size), `{"ops":[`...)
	acked := b.client.keys.acknowledged() // with the first operation is enough: it is one client's
	for i, o := range ops {
		if i > 0 {
			payload, acked = append(payload, ','), 0
		}
		payload = o.append(payload, b.client.id, acked)
	}
	payload = append(payload, "]}"...)
	var results []api.BatchResult
	rep, err := b.client.persist(b.client.life, call{method: http.MethodPost, path: "/v1/batch", keysInside: true,
		decode: func(text []byte) (err error) {
			results, err = readResults(text, len(ops))
			return err
		}}, payload, 0)
	for i, o := range ops {
		if o.sent.IsZero() {
			o.sent = rep.sent
		}
		if o.err = err; err == nil {
			o.take(results[i])
		}
	}
	came := b.backlog()
	b.finish(ops)
	return came
}

// finish tells the outcomes. What may have taken something without anybody knowing stays outstanding, and is asked for again.
func (b *batches) finish(ops []*op) {
	b.mu.Lock()
	var again []*op
	for _, o := range ops {
		o.finished = true
		switch {
		case o.keep && o.inDoubt() && o.rounds < roundsMax && !b.closed:
			again = append(again, o.again())
			o.tidy = nil
		case o.seq != 0:
			b.client.keys.settle(o.seq)
		}
	}
	// First in line: they hold the lowest keys, and without those no others may be drawn for ever.
	b.waiting = slices.Insert(b.waiting, 0, again...)
	b.mu.Unlock()
	for _, o := range ops {
		close(o.done)
	}
	for _, o := range ops {
		if o.tidy != nil {
			o.tidy(o)
		}
	}
}
