package rolling

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/quiescehq/quiesce/cluster_test/traffic"
)

const (
	clients        = 16
	attemptTimeout = 15 * time.Second
	requestLimit   = 60 * time.Second // of all attempts
	retryWait      = 20 * time.Millisecond
)

// load is the clients of the application. A wish has an id and is sent until it is answered with success.
type load struct {
	balancer *traffic.Balancer
	tally    *traffic.Tally
	http     *http.Client
	rate     int    // requests a second of all clients together: a ceiling
	run      string // makes request ids unlike those of another run

	mu     sync.Mutex
	sent   uint64
	acked  map[string]int64 // request id to order
	unsure []string         // ids whose fate no client knows
	double []string         // ids that were carried out although the answer had said that they were not

	ended  chan struct{} // of the present start
	joined sync.WaitGroup
}

func newLoad(b *traffic.Balancer, rate int) *load {
	return &load{balancer: b, rate: rate, tally: traffic.NewTally(), acked: map[string]int64{}, run: strconv.FormatInt(time.Now().UnixMilli(), 36),
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients, DisableCompression: true}}}
}

// start lets the clients work until finish, or until ctx drops what is under way.
func (l *load) start(ctx context.Context) {
	l.ended = make(chan struct{})
	ended := l.ended
	work := make(chan struct{}) // unbuffered: the rate is a ceiling
	l.joined.Go(func() {
		defer close(work)
		ticker := time.NewTicker(time.Second / time.Duration(l.rate))
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ended:
				return
			case <-ticker.C:
			}
			select {
			case work <- struct{}{}:
			default:
			}
		}
	})
	for range clients {
		l.joined.Go(func() {
			for range work {
				l.one(ctx)
			}
		})
	}
}

// finish waits for the last answer.
func (l *load) finish() {
	close(l.ended)
	l.joined.Wait()
}

func (l *load) close() {
	l.joined.Wait()
	l.http.CloseIdleConnections()
}

// one sends one wish until it is fulfilled. After an attempt that said that nothing was done, success must be said to be the first.
func (l *load) one(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	id := l.next()
	base, attempts, perhaps := "", 0, false
	for ctx.Err() == nil {
		next, some := l.balancer.Pick(base)
		if !some {
			l.tally.Attempt(traffic.None, nil)
			pause(ctx, retryWait)
			continue
		}
		base = next
		attempts++
		status, order, class := l.attempt(ctx, base, id)
		switch class {
		case traffic.OK:
			l.acknowledge(id, order, status == http.StatusOK && !perhaps)
			l.tally.Done(attempts, true)
			return
		case traffic.Gated, traffic.Refused: // surely not carried out
		default:
			perhaps = true
		}
		if class == traffic.Wrong {
			break
		}
		pause(ctx, retryWait)
	}
	l.tally.Done(attempts, false)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unsure = append(l.unsure, id)
}

func (l *load) attempt(ctx context.Context, base, id string) (status int, order int64, class traffic.Class) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	status, answer, err := traffic.Exchange(ctx, l.http, http.MethodPost, base+"/orders",
		map[string]string{"request_id": id, "customer": "Ann", "amount": "1.50", "note": id})
	class = traffic.Classify(status, answer, err)
	var got struct {
		ID int64 `json:"id"`
	}
	if class == traffic.OK && (json.Unmarshal(answer, &got) != nil || got.ID <= 0) {
		class = traffic.Wrong
	}
	l.tally.Attempt(class, func() string { return fmt.Sprintf("%s at %s: %d %s %v", id, base, status, answer, err) })
	return status, got.ID, class
}

func (l *load) next() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent++
	return fmt.Sprintf("%s-%d", l.run, l.sent)
}

func (l *load) acknowledge(id string, order int64, twice bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked[id] = order
	if twice {
		l.double = append(l.double, id)
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
