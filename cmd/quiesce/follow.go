package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client"
)

const (
	// askPause is the least time between two questions, whatever the answers say.
	askPause = 100 * time.Millisecond
	// lostPause is the time between two rounds of attempts at a cluster that does not answer.
	lostPause = time.Second
)

// follow reads what is at a path, and again whenever it has changed or park is over, until see has seen enough or ctx ends. index tells
// the revision that an answer shows. A cluster that answered once and falls silent is waited for, and say tells so: nodes and leaders may
// go meanwhile.
func follow[T any](ctx context.Context, c *cli, q question, say func(string), index func(T) uint64, see func(T) (enough bool, err error)) error {
	cl, err := client.New(client.Config{Addrs: c.addrs, RequestTimeout: q.park + min(attemptMax, c.timeout), RetryFor: c.timeout})
	if err != nil {
		return usage("%w", err)
	}
	defer cl.Close()
	f := follower{question: q, say: say}
	for {
		asked := time.Now()
		var now T
		switch err := cl.Call(ctx, http.MethodGet, f.next(), nil, &now); {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			f.heardAgain(index(now))
			if enough, err := see(now); enough || err != nil {
				return err
			}
		case !f.maySee(err):
			return err
		}
		if err := pauseUntil(ctx, asked.Add(f.pause())); err != nil {
			return err
		}
	}
}

// question is what is asked again and again, and how long a node may hold it.
type question struct {
	path string
	park time.Duration
}

// follower is how far a follow is.
type follower struct {
	question
	say   func(string)
	index uint64 // that was seen last
	seen  bool
	lost  bool // the cluster is silent, and that was told
}

func (f *follower) next() string {
	if f.index == 0 {
		return f.path
	}
	return withQuery(f.path, url.Values{"index": {fmt.Sprint(f.index)}, "wait_ms": {fmt.Sprint(f.park.Milliseconds())}})
}

func (f *follower) heardAgain(index uint64) {
	if f.lost {
		f.say("the cluster answers again")
	}
	f.index, f.seen, f.lost = index, true, false
}

// maySee tells whether another question may be answered.
func (f *follower) maySee(err error) bool {
	if refusedWith(err, api.CodeIndexAhead) { // restored from a backup, or a node that lags
		f.index = 0
		return f.seen
	}
	if !f.seen || !errors.Is(err, client.ErrUnavailable) && !errors.Is(err, client.ErrOutcomeUnknown) {
		return false
	}
	if !f.lost {
		f.say("the cluster does not answer, and is asked again; what was begun goes on")
	}
	f.lost = true
	return true
}

func (f *follower) pause() time.Duration {
	if f.lost {
		return lostPause
	}
	return askPause
}

func pauseUntil(ctx context.Context, t time.Time) error {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// say tells a person something beside the answer.
func (c *cli) say(text string) { fmt.Fprintln(c.err, "quiesce: "+plain(text)) }

// showLine prints one state of what is followed: a line of JSON, a document of YAML, or the line for a person.
func (c *cli) showLine(answer any, line string) error {
	switch c.format {
	case formatJSON:
		return json.NewEncoder(c.out).Encode(answer)
	case formatYAML:
		if _, err := fmt.Fprintln(c.out, "---"); err != nil {
			return err
		}
		return c.show(answer, nil)
	}
	_, err := fmt.Fprintln(c.out, plain(line))
	return err
}
