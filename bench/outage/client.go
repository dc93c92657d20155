package outage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/bench/wire"
)

const (
	// RetryPause is the time between an answer that acknowledged nothing and the next attempt: what a gap cannot be measured more finely than.
	RetryPause = 2 * time.Millisecond
	lanes      = 16               // at the usual pace a few are busy
	attemptMax = 2 * time.Second  // an attempt at a node that hangs
	sessionTTL = 10 * time.Minute // longer than any measurement: its session needs no keepalive
)

// Config says what a client does.
type Config struct {
	Addr  string        // of its node
	Name  string        // of this use: no two at one cluster may share it
	Every time.Duration // a write is due so often
}

// Client writes to one node on a schedule. A write takes or gives back a lock that nobody else wants.
type Client struct {
	config  Config
	session string
	due     chan struct{} // holds what is due and not yet sent
	cancel  context.CancelFunc
	joined  sync.WaitGroup
	late    atomic.Int64

	mu      sync.Mutex
	acks    []time.Time
	slowest time.Duration
	failed  error
}

// backlogMax bounds what is due and not sent; beyond it a tick is only counted as late. It is more than any gap of interest leaves.
const backlogMax = 1 << 14

// Start opens the client's session and begins to write.
func Start(ctx context.Context, c Config) (*Client, error) {
	opener := patient(c, "open")
	defer opener.Close()
	body, err := json.Marshal(api.OpenSession{Name: "bench", TTLMs: uint64(sessionTTL.Milliseconds())})
	if err != nil {
		return nil, err
	}
	answer, err := opener.Post(ctx, "/v1/sessions", body)
	if err != nil {
		return nil, err
	}
	var opened api.Session
	if err := json.Unmarshal(answer, &opened); err != nil {
		return nil, err
	}
	w := &Client{config: c, session: opened.ID, due: make(chan struct{}, backlogMax)}
	ctx, w.cancel = context.WithCancel(ctx)
	w.joined.Go(func() { w.schedule(ctx) })
	for i := range lanes {
		w.joined.Go(func() { w.lane(ctx, i) })
	}
	return w, nil
}

func patient(c Config, lane string) *wire.Patient {
	return &wire.Patient{Addr: c.Addr, Name: c.Name + "-" + lane, Pause: RetryPause, Limit: attemptMax}
}

// schedule makes a write due at every tick, whatever becomes of the others. A tick that the clock swallowed is made up for.
func (w *Client) schedule(ctx context.Context) {
	ticker := time.NewTicker(w.config.Every)
	defer ticker.Stop()
	for sent, began := 0, time.Now(); ; {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		for want := int(time.Since(began) / w.config.Every); sent < want; sent++ {
			select {
			case w.due <- struct{}{}:
				if len(w.due) > lanes {
					w.late.Add(1)
				}
			default:
				w.late.Add(1)
			}
		}
	}
}

func (w *Client) lane(ctx context.Context, number int) {
	p := patient(w.config, fmt.Sprint(number))
	defer p.Close()
	l := lane{client: w, patient: p, lock: fmt.Sprintf("bench/outage/%s/%d", w.config.Name, number)}
	for {
		select {
		case <-w.due:
		case <-ctx.Done():
			return
		}
		began := time.Now()
		if err := l.write(ctx); err != nil {
			if ctx.Err() == nil {
				w.fail(err)
			}
			return
		}
		w.acknowledge(began, time.Now())
	}
}

func (w *Client) acknowledge(began, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acks = append(w.acks, at)
	w.slowest = max(w.slowest, at.Sub(began))
}

func (w *Client) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failed = errors.Join(w.failed, err)
}

// Since counts the writes that were acknowledged after a moment.
func (w *Client) Since(t time.Time) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := len(w.acks) - 1; i >= 0 && w.acks[i].After(t); i-- {
		n++
	}
	return n
}

// Err is the first refusal.
func (w *Client) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed
}

// Seen is what a client has seen.
type Seen struct {
	Acks    []time.Time
	Slowest time.Duration // from the sending of a write's first attempt to its acknowledgement
	Late    int           // writes that had to wait for others
}

// Stop ends the client and tells what it has seen. The error is that of the first write that was refused. It does no harm twice.
func (w *Client) Stop() (Seen, error) {
	w.cancel()
	w.joined.Wait()
	return Seen{Acks: w.acks, Slowest: w.slowest, Late: int(w.late.Load())}, w.failed
}

// lane is one write at a time: a lock is taken, then given back, and so on.
type lane struct {
	client  *Client
	patient *wire.Patient
	lock    string
	token   uint64 // 0: it is free
	body    []byte
}

func (l *lane) write(ctx context.Context) error {
	if l.token != 0 {
		l.body = fmt.Appendf(l.body[:0], `{"session":%q,"locks":[{"name":%q,"token":%d}]}`, l.client.session, l.lock, l.token)
		_, err := l.patient.Post(ctx, "/v1/locks/release", l.body)
		l.token = 0
		return err
	}
	l.body = fmt.Appendf(l.body[:0], `{"session":%q,"locks":[{"name":%q}]}`, l.client.session, l.lock)
	answer, err := l.patient.Post(ctx, "/v1/locks/acquire", l.body)
	if err != nil {
		return err
	}
	var got api.Acquired
	if err := json.Unmarshal(answer, &got); err != nil {
		return err
	}
	if len(got.Grants) != 1 {
		return fmt.Errorf("%w: a free lock was answered with %d grants", wire.ErrRefused, len(got.Grants))
	}
	l.token = got.Grants[0].Token
	return nil
}
