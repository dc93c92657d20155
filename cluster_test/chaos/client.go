package chaos

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/cluster_test/harness"
	"github.com/quiescehq/quiesce/cluster_test/history"
)

const (
	askWithin  = 8 * time.Second // beside the time that a request may park; then the client gives up
	retryEvery = 20 * time.Millisecond
	openWithin = time.Minute
)

// client is one client of a round. It goes through a node until that fails it.
type client struct {
	round   *round
	number  int
	rng     *mathrand.Rand
	at      int // the node that it asks
	session string
}

func newClient(p *round, number int) *client {
	c := &client{round: p, number: number, rng: p.chance(number)}
	c.at = c.rng.IntN(len(p.run.c.Nodes))
	return c
}

func (c *client) node() *harness.Node { return c.round.run.c.Nodes[c.at%len(c.round.run.c.Nodes)] }

// errUnanswered is a request that got no answer which says what became of it.
var errUnanswered = errors.New("unanswered")

// reply is what the API says to one operation, by itself or in a batch.
type reply struct {
	status int
	body   json.RawMessage
	code   api.Code
	holder history.Holder // of a refusal
}

// ask sends a request, under its key when it has one, to one node after the other until it is answered.
func (c *client) ask(ctx context.Context, within time.Duration, request harness.Request) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, within+request.Parks)
	defer cancel()
	for {
		answer, err := c.round.run.c.Send(ctx, c.node(), request)
		if err == nil && answer.Status < http.StatusInternalServerError {
			p := answer.Problem()
			return reply{status: answer.Status, body: answer.Body, code: p.Code, holder: history.Holder{Session: p.Holder, Token: p.Token}}, nil
		}
		if err == nil && answer.Status == http.StatusInternalServerError {
			c.round.run.complain("%s answers %s: %s", c.node().ID, request.Path, answer.Body)
		}
		c.at++
		rest(ctx, retryEvery)
		if ctx.Err() != nil {
			return reply{}, errUnanswered
		}
	}
}

// post is ask for a mutating operation: it has a key, so that it can be repeated.
func (c *client) post(ctx context.Context, within, parks time.Duration, path string, body any) (reply, error) {
	return c.ask(ctx, within, harness.Request{Method: http.MethodPost, Path: path, Key: "chaos-" + rand.Text(), Body: body, Parks: parks})
}

// batch sends one operation as a batch, which never parks.
func (c *client) batch(ctx context.Context, within time.Duration, op string, body any) (reply, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return reply{}, err
	}
	sent, err := c.ask(ctx, within, harness.Request{Method: http.MethodPost, Path: "/v1/batch",
		Body: api.Batch{Ops: []api.BatchOp{{Op: op, Key: "chaos-" + rand.Text(), Body: text}}}})
	var answer api.BatchAnswer
	if err != nil || sent.status != http.StatusOK || json.Unmarshal(sent.body, &answer) != nil || len(answer.Results) != 1 {
		return sent, err
	}
	result := answer.Results[0]
	out := reply{status: result.Status, body: result.Body}
	if p := result.Problem; p != nil {
		out.code, out.holder = p.Code, history.Holder{Session: p.Holder, Token: p.Token}
	}
	if result.Status >= http.StatusInternalServerError {
		return out, errUnanswered
	}
	return out, nil
}

// open opens the session. A lease that was opened counts from when the first request for it was sent.
func (c *client) open(ctx context.Context) bool {
	sent := c.round.record.Now()
	var s api.Session
	got, err := c.post(ctx, openWithin, 0, "/v1/sessions", api.OpenSession{Name: "chaos", TTLMs: uint64(ttl.Milliseconds())})
	if err != nil || got.status != http.StatusOK || json.Unmarshal(got.body, &s) != nil {
		return false
	}
	c.session = s.ID
	c.round.record.Renewed(s.ID, ttl, sent)
	c.round.opened(s.ID)
	return true
}

// finish closes the session.
func (c *client) finish(ctx context.Context) {
	c.round.silence(c.session)
	o := c.begin(history.Op{Kind: history.Finish})
	got, err := c.ask(ctx, askWithin, harness.Request{Method: http.MethodDelete, Path: "/v1/sessions/" + c.session, Key: "chaos-" + rand.Text()})
	c.end(o, got, err, nil)
}

func (c *client) begin(o history.Op) *history.Op {
	o.Client, o.Session = c.number, c.session
	return c.round.record.Begin(o)
}

// outcomes are those that the codes of refusals stand for.
var outcomes = map[api.Code]history.Outcome{
	api.CodeLockHeld: history.Held, api.CodeNotHolder: history.NotHolder, api.CodeNoSuccessor: history.NoSuccessor, api.CodeSessionNotFound: history.Gone,
	api.CodeLockWaitTimeout: history.TimedOut, api.CodeTicketEnded: history.Ended, api.CodeTicketNotFound: history.Lost,
}

// end notes an answer. A success is read by read.
func (c *client) end(o *history.Op, got reply, err error, read func(o *history.Op)) {
	if err != nil {
		return
	}
	outcome, known := outcomes[got.code]
	if got.status >= http.StatusMultipleChoices && !known {
		c.round.run.complain("%v is answered %d %s", o, got.status, got.body)
		return
	}
	c.round.record.End(o, func(o *history.Op) {
		switch {
		case known:
			o.Outcome, o.Heir = outcome, got.holder
		case read != nil:
			read(o)
		default:
			o.Outcome = history.Done
		}
	})
}

// look reads how each name of the round stands.
func (c *client) look(ctx context.Context) {
	for _, name := range c.round.names {
		o := c.begin(history.Op{Kind: history.Look, Grants: []history.Grant{{Name: name}}})
		got, err := c.ask(ctx, lookWithin, harness.Request{Method: http.MethodGet, Path: "/v1/locks?name=" + url.QueryEscape(name)})
		var page api.Locks
		if err == nil && got.status == http.StatusOK {
			err = json.Unmarshal(got.body, &page)
		}
		c.end(o, got, err, func(o *history.Op) {
			o.Outcome = history.Done
			for _, l := range page.Locks {
				o.Sight = append(o.Sight, seen(l))
			}
		})
	}
}

func seen(l api.Lock) history.Seen {
	out := history.Seen{Name: l.Name}
	for _, h := range l.Holders {
		out.Holders = append(out.Holders, history.Holder{Session: h.Session, Owner: h.Owner, Token: h.Token, Permits: int(h.Permits), Count: int(h.Count)})
	}
	for _, w := range l.Queue {
		out.Queue = append(out.Queue, history.Waiting{Session: w.Session, Ticket: w.Ticket})
	}
	return out
}

func grantsOf(got []api.Grant) (out []history.Grant) {
	for _, g := range got {
		out = append(out, history.Grant{Name: g.Name, Token: g.Token, Count: int(g.Count)})
	}
	return out
}

func held(grants []history.Grant) (out []api.Grant) {
	for _, g := range grants {
		out = append(out, api.Grant{Name: g.Name, Token: g.Token})
	}
	return out
}
