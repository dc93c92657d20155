package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	requestsPerSecond = 160
	loadWorkers       = 24
	attemptTimeout    = 15 * time.Second      // longer than the application takes at worst: its limit, and what a commit obliges to after it
	requestLimit      = 60 * time.Second      // of all attempts: a stop of MySQL may take a while on a busy machine
	retryWait         = 40 * time.Millisecond // after the first attempt; it grows by that with each
	retryWaitMax      = 400 * time.Millisecond
	bodyMaxBytes      = 64 << 10
)

// errResent unmasks a cut: net/http sends a read again by itself when its connection broke.
var errResent = errors.New("the connection broke and the request was sent again")

// traffic is the application's clients: a constant rate of requests over kept-alive connections.
type traffic struct {
	balancer *balancer
	book     *book
	tally    *tally
	http     *http.Client
	run      string // makes request ids unlike those of another run

	ended  chan struct{} // closed to end the load
	joined sync.WaitGroup
}

func newTraffic(b *balancer) *traffic {
	return &traffic{balancer: b, book: newBook(), tally: newTally(), run: strconv.FormatInt(time.Now().UnixMilli(), 36), ended: make(chan struct{}),
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: loadWorkers, DisableCompression: true}}}
}

// start begins the load. Ended by finish, it completes what is under way; ended by ctx, it drops that.
func (t *traffic) start(ctx context.Context) {
	work := make(chan struct{}) // unbuffered: a request that finds no worker free is not sent, the rate is a ceiling
	t.joined.Go(func() {
		defer close(work)
		ticker := time.NewTicker(time.Second / requestsPerSecond)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.ended:
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
		t.joined.Go(func() {
			dice := rand.New(rand.NewPCG(uint64(w), 1))
			for n := 0; ; n++ {
				if _, open := <-work; !open {
					return
				}
				t.one(ctx, dice, fmt.Sprintf("%s-%d-%d", t.run, w, n))
			}
		})
	}
}

// finish ends the load and waits for the last answer.
func (t *traffic) finish() {
	close(t.ended)
	t.joined.Wait()
}

// request is one wish of a client, however many attempts it takes.
type request struct {
	method, path string
	id           string // empty: a read
	body         any
	order        int64 // 0: it makes one
}

// one makes one request: three of ten create, four update under the order's lock, three read.
func (t *traffic) one(ctx context.Context, dice *rand.Rand, id string) {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	what := dice.IntN(10)
	if what < 3 {
		t.create(ctx, id)
		return
	}
	order, known := t.book.hot(dice)
	if what >= 7 {
		order, known = t.book.any(dice)
	}
	if !known {
		return
	}
	path := "/orders/" + strconv.FormatInt(order, 10)
	if what >= 7 {
		t.send(ctx, request{method: http.MethodGet, path: path, order: order})
		return
	}
	t.send(ctx, request{method: http.MethodPut, path: path, id: id, order: order,
		body: map[string]string{"request_id": id, "status": "paid", "note": "Straße “" + id + "” \\ \t 🧾"}})
}

func (t *traffic) create(ctx context.Context, id string) bool {
	order, ok := t.send(ctx, request{method: http.MethodPost, path: "/orders", id: id, body: map[string]string{
		"request_id": id, "customer": "Ann & Ölaf <" + id + ">", "amount": strconv.Itoa(len(id)) + ".50", "note": "made by " + id}})
	if ok {
		t.book.add(order)
	}
	return ok
}

// send makes attempts until one succeeds, under the same request id, each at another instance than the one before.
func (t *traffic) send(ctx context.Context, r request) (order int64, ok bool) {
	base, attempts := "", 0
	for ctx.Err() == nil {
		next, some := t.balancer.pick(base)
		if !some {
			t.tally.attempt(classNone, nil)
			pause(ctx, retryWait)
			continue
		}
		base = next
		attempts++
		var c class
		if order, c = t.attempt(ctx, base, r); c == classOK {
			if r.id != "" {
				t.book.acknowledge(r.id, order)
			}
			t.tally.done(attempts, true)
			return order, true
		}
		if c == classWrong {
			break
		}
		pause(ctx, min(retryWaitMax, time.Duration(attempts)*retryWait))
	}
	t.tally.done(attempts, false)
	return 0, false
}

func (t *traffic) attempt(ctx context.Context, base string, r request) (int64, class) {
	status, answer, err := t.exchange(ctx, base, r)
	c := classify(status, answer, err)
	var got struct {
		ID int64 `json:"id"`
	}
	if c == classOK && (json.Unmarshal(answer, &got) != nil || got.ID <= 0 || r.order != 0 && got.ID != r.order) {
		c = classWrong // success for another order than was asked for
	}
	t.tally.attempt(c, func() string {
		return fmt.Sprintf("%s %s%s: %d %s %v", r.method, base, r.path, status, bytes.TrimSpace(answer), err)
	})
	return got.ID, c
}

func (t *traffic) exchange(ctx context.Context, base string, r request) (int, []byte, error) {
	payload := []byte(nil)
	if r.body != nil {
		var err error
		if payload, err = json.Marshal(r.body); err != nil {
			return 0, nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	sent := atomic.Int32{}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { sent.Add(1) }})
	req, err := http.NewRequestWithContext(ctx, r.method, base+r.path, bytes.NewReader(payload))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	response, err := t.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, bodyMaxBytes))
	if err == nil && sent.Load() > 1 {
		err = errResent
	}
	return response.StatusCode, answer, err
}
