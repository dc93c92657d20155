package client

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/quiescehq/quiesce/api"
)

const (
	// silenceMax is three of the comments that a node sends while nothing happens: then the connection is dead, whoever keeps it open.
	silenceMax = 45 * time.Second
	// eventBytes bounds a line of the stream: a value in JSON escapes, and what goes with it.
	eventBytes = 64 << 10
)

var errSilent = errors.New("client: the stream fell silent")

// Observe tells who leads an election: the present leader, or that there is none, and then each change, until ctx ends or the loop is
// left. Of changes in quick succession the last is certain to be told. It outlives nodes and leaders of the cluster: while nobody can be
// asked it waits. The only errors are the end of ctx and a refusal, and each ends it:
//
//	for leader, err := range c.Observe(ctx, "scheduler") {
//		if err != nil {
//			return err
//		}
//		log.Print(leader.Value)
//	}
func (c *Client) Observe(ctx context.Context, election string) iter.Seq2[Leader, error] {
	return func(yield func(Leader, error) bool) {
		o := &observer{client: c, election: election, yield: yield}
		for attempt := 1; ; attempt++ {
			err := o.stream(ctx)
			switch {
			case o.left:
				return
			case ctx.Err() != nil:
				yield(Leader{}, fmt.Errorf("observe %q: %w", election, context.Cause(ctx)))
				return
			case !errors.As(err, new(*failure)):
				yield(Leader{}, fmt.Errorf("observe %q: %w", election, err))
				return
			}
			if o.heard {
				attempt, o.heard = 1, false
			}
			c.log.Debug("observing again", "election", election, "error", err)
			_ = pause(ctx, backoff(attempt)) // if ctx ends, the next round sees it
		}
	}
}

// observer is one loop over the leaders of an election, over as many connections as it takes.
type observer struct {
	client   *Client
	election string
	yield    func(Leader, error) bool
	last     *Leader // told
	lastID   string
	heard    bool // of this connection
	left     bool // the loop was left
}

// stream reads one connection to its end. A *failure asks for another one.
func (o *observer) stream(parent context.Context) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	silence := time.AfterFunc(silenceMax, func() { cancel(errSilent) })
	defer silence.Stop()
	base := o.client.nodes.pick()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/v1/elections/observe?name="+url.QueryEscape(o.election), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/event-stream")
	if o.lastID != "" {
		req.Header.Set("Last-Event-ID", o.lastID)
	}
	response, err := o.client.http.Do(req)
	if err != nil {
		if parent.Err() == nil {
			o.client.nodes.failed(base)
		}
		return transportFailure(err)
	}
	defer response.Body.Close() //nolint:errcheck // nothing of it is wanted any more
	o.client.nodes.learn(response.Header.Get(api.HeaderLeader))
	if response.StatusCode != http.StatusOK {
		refused := readProblem(response.StatusCode, response.Header, response.Body)
		if refused.Status < 500 && refused.Status != http.StatusTooManyRequests {
			return refused
		}
		o.client.nodes.failed(base)
		return &failure{err: refused}
	}
	err = o.read(bufio.NewScanner(response.Body), func() { silence.Reset(silenceMax) })
	if !o.heard && parent.Err() == nil {
		o.client.nodes.failed(base)
	}
	return &failure{err: err}
}

// read takes the events of a stream apart. Every line, also a comment, is a sign of life.
func (o *observer) read(lines *bufio.Scanner, alive func()) error {
	lines.Buffer(nil, eventBytes)
	var event, data, id string
	for lines.Scan() {
		alive()
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case lines.Text() == "":
			if event == "leader" && !o.tell(data, id) {
				return io.EOF
			}
			event, data, id = "", "", ""
		case field == "event":
			event = value
		case field == "data":
			data += value
		case field == "id":
			id = value
		}
	}
	return cmp.Or(lines.Err(), io.EOF)
}

// tell hands an event on unless it says what was told last: each connection begins with the present leader. It answers false when the
// stream is of no more use.
func (o *observer) tell(data, id string) bool {
	var now api.Election
	if err := json.Unmarshal([]byte(data), &now); err != nil {
		return false
	}
	l := leaderOf(now)
	o.heard, o.lastID = true, id
	if o.last != nil && o.last.same(l) {
		return true
	}
	o.last = &l
	o.left = !o.yield(l, nil)
	return !o.left
}
