package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/quiescehq/quiesce/client"
)

// askEvery is the time between two questions. Each is answered at once: what a person follows, such as a place in the queue or the time that
// is left, changes without the thing itself being changed.
const askEvery = 500 * time.Millisecond

// errUnfollowed says that ctx ended before what is followed did.
var errUnfollowed = errors.New("no longer followed")

// follow reads what is at a path again and again, until see has seen enough, or until ctx ends: errUnfollowed. A cluster that answered once and falls silent is
// waited for, and say tells so: nodes and leaders may go meanwhile.
func follow[T any](ctx context.Context, c *cli, path string, say func(string), see func(T) (enough bool, err error)) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	seen, lost := false, false
	for {
		next := time.Now().Add(askEvery)
		var now T
		err := cl.Call(ctx, http.MethodGet, path, nil, &now)
		switch {
		case ctx.Err() != nil:
			return errUnfollowed
		case err == nil:
			if lost {
				say("the cluster answers again")
			}
			seen, lost = true, false
			if enough, err := see(now); enough || err != nil {
				return err
			}
		case !seen || !silent(err):
			return err
		case !lost:
			lost = true
			say("the cluster does not answer, and is asked again; what was begun goes on")
		}
		if pauseUntil(ctx, next) != nil {
			return errUnfollowed
		}
	}
}

// silent tells whether an error says nothing of the thing itself.
func silent(err error) bool {
	return errors.Is(err, client.ErrUnavailable) || errors.Is(err, client.ErrOutcomeUnknown)
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
