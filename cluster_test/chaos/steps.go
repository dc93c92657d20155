package chaos

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/cluster_test/harness"
	"github.com/quiescehq/quiesce/cluster_test/history"
)

// In a hundred.
const (
	chanceTry       = 30 // of acquires: does not wait
	chanceBatch     = 50 // of waits: in a batch, which answers the ticket at once
	chanceCancel    = 12 // of each time that a ticket is asked after
	chanceLate      = 15 // of tickets: nobody comes for the grant in time
	chanceAbandon   = 2  // of requests: nobody waits for the answer
	chanceValidate  = 30 // of grants
	chanceDowngrade = 40
	chanceHandOff   = 25
	chanceNamed     = 40 // of hand-offs: to a named session
	chanceKeep      = 8  // of grants: not released but by the end of the session
	chanceSilent    = 12 // of sessions: not closed but silent
)

const (
	holdMax      = 30 * time.Millisecond
	abandonAfter = 2 * time.Millisecond
	claimAfter   = 20 * time.Second // no grant of a round lapses, unless its client is gone
	claimSoon    = 400 * time.Millisecond
	parkEach     = 500 * time.Millisecond
	attachesMax  = 20
	againMax     = 3
)

// waits are how long clients wait: less than an expiry takes, and more.
var waits = []time.Duration{300 * time.Millisecond, ttl, 3 * ttl}

// owners of a session, which wait for each other like strangers.
var owners = []string{"", "thread-1"}

func (c *client) dice(hundredths int) bool { return c.rng.IntN(100) < hundredths }

// live is a client's life: steps in a session, which is closed in the end, or falls silent.
func (c *client) live(ctx context.Context) {
	if !c.open(ctx) {
		return // nobody knows of it, so it contends for nothing
	}
	for range 1 + c.rng.IntN(c.round.kind.steps) {
		if c.round.run.stop.Load() {
			break
		}
		if !c.step(ctx) {
			c.round.silence(c.session) // it does not know what it holds: see C3
			return
		}
	}
	if c.dice(chanceSilent) {
		c.acquire(ctx, c.wish()) // to leave a lock or a wait behind
		c.round.silence(c.session)
		return
	}
	c.finish(ctx)
}

// step takes locks and gives them back. False: the client does not know how it stands.
func (c *client) step(ctx context.Context) bool {
	o, stands := c.acquire(ctx, c.wish())
	switch o.Outcome {
	case history.Held:
		rest(ctx, time.Duration(c.rng.Int64N(int64(holdMax))))
		return true
	case history.Granted:
		return c.hold(ctx, o, o.Got)
	case history.Queued:
		if stands == nil {
			stands = c.follow(ctx, o)
		}
		if stands != nil && stands.Outcome == history.Granted {
			return c.hold(ctx, o, stands.Got)
		}
		return stands != nil
	}
	return false
}

// wish is what to ask for.
func (c *client) wish() history.Op {
	k := c.round.kind
	o := history.Op{Kind: history.Acquire, Counts: k.counts, Claim: claimAfter}
	names := 1
	if k.names > 1 {
		names = 1 + c.rng.IntN(k.names)
	}
	mode := k.modes[c.rng.IntN(len(k.modes))]
	for _, i := range c.rng.Perm(k.names)[:names] {
		w := history.Want{Name: c.round.names[i], Mode: mode}
		if mode == history.Permits {
			w.Limit, w.Permits = limit, 1+c.rng.IntN(limit-1)
		}
		o.Wants = append(o.Wants, w)
	}
	if k.counts {
		o.Owner = owners[c.rng.IntN(len(owners))]
	}
	if k.tickets || !c.dice(chanceTry) {
		o.Wait = waits[c.rng.IntN(len(waits))]
	}
	if k.tickets && c.dice(chanceLate) {
		o.Claim = claimSoon
	}
	return o
}

var modeNames = map[history.Mode]string{history.Exclusive: api.ModeExclusive, history.Shared: api.ModeShared, history.Permits: api.ModePermits}

// acquire asks for locks. When a wait was over before the answer came, how its ticket stands is noted as an operation of its own.
func (c *client) acquire(ctx context.Context, wish history.Op) (o, stands *history.Op) {
	body := api.AcquireLocks{Session: c.session, Owner: wish.Owner, Reentrant: wish.Counts, WaitMs: uint64(wish.Wait.Milliseconds()), ClaimMs: uint64(wish.Claim.Milliseconds())}
	for _, w := range wish.Wants {
		body.Locks = append(body.Locks, api.LockWanted{Name: w.Name, Mode: modeNames[w.Mode], Permits: uint64(w.Permits), Limit: uint64(w.Limit)})
	}
	within := askWithin
	if c.dice(chanceAbandon) {
		within = abandonAfter
	}
	batched := wish.Wait > 0 && (c.round.kind.tickets || c.dice(chanceBatch))
	o = c.begin(wish)
	var got reply
	var err error
	if batched {
		got, err = c.batch(ctx, within, api.OpAcquire, body)
	} else {
		parks := wish.Wait
		if within == abandonAfter {
			parks = 0
		}
		got, err = c.post(ctx, within, parks, "/v1/locks/acquire", body)
	}
	return o, c.acquired(o, got, err)
}

// acquired notes the answer to an acquire.
func (c *client) acquired(o *history.Op, got reply, err error) (stands *history.Op) {
	var a api.Acquired
	if err == nil && got.status < http.StatusMultipleChoices {
		err = json.Unmarshal(got.body, &a)
	}
	outcome, over := outcomes[got.code]
	switch {
	case err != nil:
		return nil
	case got.status == http.StatusOK && a.Ticket != 0:
		outcome, over = history.Granted, true
	case got.status == http.StatusAccepted:
		over = false
	case got.code == api.CodeLockWaitTimeout || got.code == api.CodeTicketEnded:
	case got.code == api.CodeSessionNotFound && o.Wait > 0:
		// Before it could wait, or while it did: only that the session is gone is sure.
		c.round.record.Also(o, history.Op{Kind: history.Renew, Outcome: history.Gone})
		return nil
	default:
		c.end(o, got, nil, func(o *history.Op) { o.Outcome, o.Got = history.Granted, grantsOf(a.Grants) })
		return nil
	}
	c.round.record.End(o, func(o *history.Op) { o.Outcome, o.Told = history.Queued, a.Ticket })
	if over {
		stands = c.round.record.Also(o, history.Op{Kind: history.Attach, Of: o.ID, Outcome: outcome, Got: grantsOf(a.Grants)})
	}
	return stands
}

// follow takes up a wait again and again, mostly through other nodes, until it is over. Nil: the client does not know how it stands.
func (c *client) follow(ctx context.Context, o *history.Op) *history.Op {
	if o.Claim == claimSoon {
		rest(ctx, o.Wait+claimSoon)
	}
	for range attachesMax {
		if c.dice(chanceCancel) {
			if ended := c.cancel(ctx, o.Told); ended.Outcome != history.Ended {
				return known(ended)
			}
		}
		c.at += c.rng.IntN(2)
		if stands := known(c.attach(ctx, o.Told)); stands != nil && stands.Outcome != history.Queued {
			return stands
		}
	}
	return nil
}

func known(o *history.Op) *history.Op {
	if o.Outcome == history.Unknown {
		return nil
	}
	return o
}

// attach asks how a ticket stands, and parks for a moment. A ticket without a place stands for a grant that could not be claimed just then.
func (c *client) attach(ctx context.Context, ticket uint64) *history.Op {
	o := c.begin(history.Op{Kind: history.Attach, Ticket: ticket})
	var a api.Acquired
	got, err := c.ask(ctx, askWithin, harness.Request{Method: http.MethodPost, Path: "/v1/locks/acquire", Parks: parkEach,
		Body: api.AcquireLocks{Ticket: ticket, WaitMs: uint64(parkEach.Milliseconds())}})
	if err == nil && got.status < http.StatusMultipleChoices {
		err = json.Unmarshal(got.body, &a)
	}
	if err != nil || got.status == http.StatusAccepted && a.Position == 0 {
		return o
	}
	c.end(o, got, nil, func(o *history.Op) {
		o.Outcome = history.Queued
		if got.status == http.StatusOK {
			o.Outcome, o.Got = history.Granted, grantsOf(a.Grants)
		}
	})
	return o
}

func (c *client) cancel(ctx context.Context, ticket uint64) *history.Op {
	o := c.begin(history.Op{Kind: history.Cancel, Ticket: ticket})
	got, err := c.post(ctx, askWithin, 0, "/v1/locks/cancel", api.CancelWait{Ticket: ticket})
	c.end(o, got, err, nil)
	return o
}

// hold does what holders do.
func (c *client) hold(ctx context.Context, o *history.Op, grants []history.Grant) bool {
	rest(ctx, time.Duration(c.rng.Int64N(int64(holdMax))))
	if c.dice(chanceValidate) {
		c.validate(ctx, grants[0])
	}
	if c.round.kind.counts {
		return c.again(ctx, o, grants)
	}
	if len(grants) == 1 && o.Wants[0].Mode == history.Exclusive {
		switch {
		case c.round.kind.name == "shared" && c.dice(chanceDowngrade):
			if !c.downgrade(ctx, grants[0]) {
				return false
			}
		case !c.round.kind.tickets && c.dice(chanceHandOff):
			if o := c.handOff(ctx, grants[0]); o.Outcome != history.NoSuccessor {
				return o.Outcome != history.Unknown
			}
		}
	}
	if c.dice(chanceKeep) {
		return true
	}
	return c.release(ctx, grants...)
}

// again counts a reentrant lock up and down, and has another owner of the same session refused.
func (c *client) again(ctx context.Context, o *history.Op, grants []history.Grant) bool {
	wish := history.Op{Kind: history.Acquire, Owner: o.Owner, Counts: true, Wants: o.Wants, Claim: claimAfter}
	n := 1
	for range c.rng.IntN(againMax) {
		switch o, _ := c.acquire(ctx, wish); o.Outcome {
		case history.Granted:
			n++
		case history.Unknown:
			return false
		}
	}
	stranger := wish
	stranger.Owner = "stranger"
	if c.dice(chanceValidate) {
		if o, _ := c.acquire(ctx, stranger); o.Outcome == history.Unknown {
			return false
		}
	}
	for range n {
		if !c.release(ctx, grants...) {
			return false
		}
	}
	return true
}

func (c *client) release(ctx context.Context, grants ...history.Grant) bool {
	o := c.begin(history.Op{Kind: history.Release, Grants: grants})
	within := askWithin
	if c.dice(chanceAbandon) {
		within = abandonAfter
	}
	got, err := c.post(ctx, within, 0, "/v1/locks/release", api.ReleaseLocks{Session: c.session, Locks: held(grants)})
	c.end(o, got, err, nil)
	return o.Outcome != history.Unknown
}

func (c *client) validate(ctx context.Context, g history.Grant) {
	o := c.begin(history.Op{Kind: history.Validate, Grants: []history.Grant{g}})
	var v api.LockValidity
	got, err := c.ask(ctx, askWithin, harness.Request{Method: http.MethodPost, Path: "/v1/locks/validate", Body: api.ValidateLock{Name: g.Name, Token: g.Token}})
	if err == nil && got.status == http.StatusOK {
		err = json.Unmarshal(got.body, &v)
	}
	c.end(o, got, err, func(o *history.Op) {
		o.Outcome, o.Valid, o.Heir = history.Done, v.Valid, history.Holder{Session: v.Holder, Token: v.Token}
	})
}

func (c *client) downgrade(ctx context.Context, g history.Grant) bool {
	o := c.begin(history.Op{Kind: history.Downgrade, Grants: []history.Grant{g}})
	got, err := c.post(ctx, askWithin, 0, "/v1/locks/downgrade", api.DowngradeLock{Session: c.session, Name: g.Name, Token: g.Token})
	c.end(o, got, err, nil)
	return o.Outcome != history.Unknown
}

// handOff gives a lock to the first in line or to a session of the round.
func (c *client) handOff(ctx context.Context, g history.Grant) *history.Op {
	wish := history.Op{Kind: history.HandOff, Grants: []history.Grant{g}}
	if c.dice(chanceNamed) {
		wish.To = c.round.peer(c.rng)
	}
	o := c.begin(wish)
	var to api.HandedOff
	got, err := c.post(ctx, askWithin, 0, "/v1/locks/handoff", api.HandOffLock{Session: c.session, Name: g.Name, Token: g.Token, To: wish.To})
	if err == nil && got.status == http.StatusOK {
		err = json.Unmarshal(got.body, &to)
	}
	c.end(o, got, err, func(o *history.Op) {
		o.Outcome, o.Told, o.Heir = history.Done, to.Ticket, history.Holder{Session: to.Session, Token: to.Token}
	})
	return o
}
