package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client"
)

const (
	directWorkers  = 3
	directEvery    = 100 * time.Millisecond // of each worker
	directLocks    = 2                      // fewer than workers, so that they wait for each other
	directLockWait = 20 * time.Second
	directLimit    = 45 * time.Second // of one cycle
	lagEvery       = 50 * time.Millisecond
	lagPark        = 2 * time.Second
	mappingName    = "orders"
)

// accepted is what the nodes have taken of events of one row.
type accepted struct {
	count  int
	newest uint64 // token
}

// direct is a load on the nodes themselves, through the SDK: sessions, locks and events. It checks exclusion while it goes.
type direct struct {
	client  *client.Client
	cluster *cluster
	book    *book

	ended  chan struct{}
	joined sync.WaitGroup
	calls  atomic.Uint64
	failed atomic.Uint64
	broken atomic.Uint64 // promises of a lock
	faults atomic.Uint64 // odd while something is being broken on purpose

	mu       sync.Mutex
	holders  map[string]int
	tokens   map[string]uint64
	events   map[int64]accepted // by order
	lags     []time.Duration
	examples []string
}

func newDirect(c *cluster, b *book) (*direct, error) {
	sdk, err := client.New(client.Config{Addrs: c.addrs()})
	if err != nil {
		return nil, err
	}
	return &direct{client: sdk, cluster: c, book: b, ended: make(chan struct{}), holders: map[string]int{}, tokens: map[string]uint64{},
		events: map[int64]accepted{}}, nil
}

func (d *direct) start(ctx context.Context) {
	for w := range directWorkers {
		d.joined.Go(func() {
			dice := rand.New(rand.NewPCG(uint64(w), 2))
			d.repeat(ctx, directEvery, func() { d.attempt(ctx, dice) })
		})
	}
	d.joined.Go(func() {
		dice := rand.New(rand.NewPCG(0, 3))
		d.repeat(ctx, lagEvery, func() { d.measureLag(ctx, dice) })
	})
}

// finish ends the load and waits for the last cycle.
func (d *direct) finish() {
	close(d.ended)
	d.joined.Wait()
}

func (d *direct) repeat(ctx context.Context, every time.Duration, do func()) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.ended:
			return
		case <-ticker.C:
			do()
		}
	}
}

func (d *direct) attempt(ctx context.Context, dice *rand.Rand) {
	cycle, cancel := context.WithTimeout(ctx, directLimit)
	defer cancel()
	err := d.cycle(cycle, fmt.Sprintf("demo/direct/%d", dice.IntN(directLocks)))
	if err == nil {
		_, _, err = d.enqueue(cycle, dice)
	}
	d.count(ctx, err)
}

// count counts a cycle, unless the demo itself is being ended.
func (d *direct) count(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	d.calls.Add(1)
	if err == nil {
		return
	}
	d.failed.Add(1)
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.examples) < examplesMax {
		d.examples = append(d.examples, err.Error())
	}
}

// cycle opens a session, takes a lock, gives both back.
func (d *direct) cycle(ctx context.Context, name string) error {
	session, err := d.client.OpenSession(ctx, "demo", 0)
	if err != nil {
		return err
	}
	lock, err := session.Lock(ctx, name, client.WaitAtMost(directLockWait))
	if err != nil {
		_ = session.Close(ctx) // the lock's error is the one that counts
		return err
	}
	d.enter(name, lock.Token())
	d.leave(name) // before the lock is given back
	if err := lock.Unlock(ctx); err != nil {
		return err
	}
	return session.Close(ctx)
}

// enter checks what a lock promises: nobody else is inside, and the token is higher than every one before.
func (d *direct) enter(name string, token uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.holders[name]++; d.holders[name] > 1 {
		d.broken.Add(1)
	}
	if token <= d.tokens[name] {
		d.broken.Add(1)
	}
	d.tokens[name] = token
}

func (d *direct) leave(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.holders[name]--
}

func (d *direct) enqueue(ctx context.Context, dice *rand.Rand) (order int64, token uint64, err error) {
	order, known := d.book.any(dice)
	if !known {
		return 0, 0, nil
	}
	tokens, err := d.client.Enqueue(ctx, mappingName, order)
	if err != nil {
		return 0, 0, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.events[order]
	d.events[order] = accepted{count: e.count + 1, newest: max(e.newest, tokens[0].Token)}
	return order, tokens[0].Token, nil
}

// measureLag takes the time from the sending of an event to the news that it was delivered: an upper bound of the lag. Times with a fault
// in them are not counted.
func (d *direct) measureLag(ctx context.Context, dice *rand.Rand) {
	before := d.faults.Load()
	began := time.Now()
	order, token, err := d.enqueue(ctx, dice)
	if err != nil || token == 0 {
		d.count(ctx, err)
		return
	}
	state, err := d.state(ctx, order, token, lagPark)
	took := time.Since(began)
	if err != nil || state != api.EventDone || before%2 == 1 || d.faults.Load() != before {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lags = append(d.lags, took)
}

// state asks what became of an event.
func (d *direct) state(ctx context.Context, order int64, token uint64, wait time.Duration) (string, error) {
	var state api.EventState
	err := d.cluster.ask(ctx, http.MethodPost, "/v1/outbox/wait", nil, map[string]any{"mapping": mappingName,
		"pk": []string{strconv.FormatInt(order, 10)}, "token": token, "wait_ms": wait.Milliseconds()}, &state)
	return state.State, err
}

// delivered asks what became of every event that was accepted. The newest of a row stands for the older ones: an event is done when the row
// was read after it.
func (d *direct) delivered(ctx context.Context) (given, done int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for order, e := range d.events {
		state, err := d.state(ctx, order, e.newest, 0)
		if err != nil {
			return 0, 0, err
		}
		given += e.count
		if state == api.EventDone {
			done += e.count
		}
	}
	return given, done, nil
}

// percentile gives the lag that share of the events did not exceed.
func (d *direct) percentile(share float64) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.lags) == 0 {
		return 0
	}
	slices.Sort(d.lags)
	return d.lags[min(len(d.lags)-1, int(share*float64(len(d.lags))))]
}

func (d *direct) odd() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.examples)
}
