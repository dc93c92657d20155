package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/quiescehq/quiesce/cluster_test/traffic"
)

const (
	requestsPerSecond = 160
	loadWorkers       = 24
	attemptTimeout    = 15 * time.Second      // longer than the application takes at worst: its limit, and what a commit obliges to after it
	requestLimit      = 60 * time.Second      // of all attempts: a stop of MySQL may take a while on a busy machine
	retryWait         = 40 * time.Millisecond // after the first attempt; it grows by that with each
	retryWaitMax      = 400 * time.Millisecond
)

// load is the application's clients: a constant rate of requests over kept-alive connections.
type load struct {
	balancer *traffic.Balancer
	book     *book
	tally    *traffic.Tally
	http     *http.Client
	run      string // makes request ids unlike those of another run

	ended  chan struct{} // closed to end the load
	joined sync.WaitGroup
}

func newLoad(b *traffic.Balancer) *load {
	return &load{balancer: b, book: newBook(), tally: traffic.NewTally(), run: strconv.FormatInt(time.Now().UnixMilli(), 36), ended: make(chan struct{}),
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: loadWorkers, DisableCompression: true}}}
}

// start begins the load. Ended by finish, it completes what is under way; ended by ctx, it drops that.
func (l *load) start(ctx context.Context) {
	work := make(chan struct{}) // unbuffered: a request that finds no worker free is not sent, the rate is a ceiling
	l.joined.Go(func() {
		defer close(work)
		ticker := time.NewTicker(time.Second / requestsPerSecond)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-l.ended:
				return
			case <-ticker.C:
			}
			select {
			case work <- struct{}{}:
			default:
			}
		}
	})
	for w := range loadWorkers {
		l.joined.Go(func() {
			dice := rand.New(rand.NewPCG(uint64(w), 1))
			for n := 0; ; n++ {
				if _, open := <-work; !open {
					return
				}
				l.one(ctx, dice, fmt.Sprintf("%s-%d-%d", l.run, w, n))
			}
		})
	}
}

// finish ends the load and waits for the last answer.
func (l *load) finish() {
	close(l.ended)
	l.joined.Wait()
}

// request is one wish of a client, however many attempts it takes.
type request struct {
	method, path string
	id           string // empty: a read
	body         any
	order        int64 // 0: it makes one
}

// one makes one request: three of ten create, four update under the order's lock, three read.
func (l *load) one(ctx context.Context, dice *rand.Rand, id string) {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	what := dice.IntN(10)
	if what < 3 {
		l.create(ctx, id)
		return
	}
	order, known := l.book.hot(dice)
	if what >= 7 {
		order, known = l.book.any(dice)
	}
	if !known {
		return
	}
	path := "/orders/" + strconv.FormatInt(order, 10)
	if what >= 7 {
		l.send(ctx, request{method: http.MethodGet, path: path, order: order})
		return
	}
	l.send(ctx, request{method: http.MethodPut, path: path, id: id, order: order,
		body: map[string]string{"request_id": id, "status": "paid", "note": "Straße “" + id + "” \\ \t 🧾"}})
}

func (l *load) create(ctx context.Context, id string) bool {
	order, ok := l.send(ctx, request{method: http.MethodPost, path: "/orders", id: id, body: map[string]string{
		"request_id": id, "customer": "Ann & Ölaf <" + id + ">", "amount": strconv.Itoa(len(id)) + ".50", "note": "made by " + id}})
	if ok {
		l.book.add(order)
	}
	return ok
}

// send makes attempts until one succeeds, under the same request id, each at another instance than the one before.
func (l *load) send(ctx context.Context, r request) (order int64, ok bool) {
	base, attempts := "", 0
	for ctx.Err() == nil {
		next, some := l.balancer.Pick(base)
		if !some {
			l.tally.Attempt(traffic.None, nil)
			pause(ctx, retryWait)
			continue
		}
		base = next
		attempts++
		var c traffic.Class
		if order, c = l.attempt(ctx, base, r); c == traffic.OK {
			if r.id != "" {
				l.book.acknowledge(r.id, order)
			}
			l.tally.Done(attempts, true)
			return order, true
		}
		if c == traffic.Wrong {
			break
		}
		pause(ctx, min(retryWaitMax, time.Duration(attempts)*retryWait))
	}
	l.tally.Done(attempts, false)
	return 0, false
}

func (l *load) attempt(ctx context.Context, base string, r request) (int64, traffic.Class) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	status, answer, err := traffic.Exchange(ctx, l.http, r.method, base+r.path, r.body)
	c := traffic.Classify(status, answer, err)
	var got struct {
		ID int64 `json:"id"`
	}
	if c == traffic.OK && (json.Unmarshal(answer, &got) != nil || got.ID <= 0 || r.order != 0 && got.ID != r.order) {
		c = traffic.Wrong // success for another order than was asked for
	}
	l.tally.Attempt(c, func() string {
		return fmt.Sprintf("%s %s%s: %d %s %v", r.method, base, r.path, status, bytes.TrimSpace(answer), err)
	})
	return got.ID, c
}
