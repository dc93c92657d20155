package history

import (
	"errors"
	"fmt"
	"time"
)

// errImpossible is an answer that contradicts others without looking at any order.
var errImpossible = errors.New("impossible")

// complete makes the operations of a history ready to be ordered: what was seen settles what was not learned, and what nobody calls is added.
func complete(h History) ([]*Op, error) {
	c := &completion{byID: map[int]*Op{}, byTicket: map[uint64]*Op{}, byToken: map[uint64]*Op{}, bySession: map[string][]*Op{}}
	for i := range h.Ops {
		o := h.Ops[i]
		if o.Outcome == Unknown && (o.Kind == Attach || o.Kind == Validate || o.Kind == Look || o.Kind == Renew) {
			continue // it changes nothing but whether a grant counts as claimed, which the rules leave open
		}
		if o.Kind == Acquire {
			o.tokens = make([]uint64, len(o.Wants))
		}
		c.ops = append(c.ops, &o)
		c.byID[o.ID] = &o
		if o.Kind == Acquire {
			c.bySession[o.Session] = append(c.bySession[o.Session], &o)
		}
	}
	if err := c.told(); err != nil {
		return nil, err
	}
	if err := c.seen(); err != nil {
		return nil, err
	}
	c.addEnds(h.EarliestEnd)
	c.addTimers()
	return c.ops, nil
}

type completion struct {
	ops      []*Op
	byID     map[int]*Op
	byTicket map[uint64]*Op // acquires
	byToken  map[uint64]*Op

	bySession map[string][]*Op // acquires
}

// told takes over what callers were told of their own acquires.
func (c *completion) told() error {
	for _, o := range c.ops {
		if o.Kind == Acquire && o.Told != 0 {
			if other := c.byTicket[o.Told]; other != nil {
				return fmt.Errorf("%w: ticket %d was given to %v and to %v", errImpossible, o.Told, other, o)
			}
			c.byTicket[o.Told] = o
		}
	}
	for _, o := range c.ops {
		of := o
		if o.Kind == Attach || o.Kind == Cancel {
			if o.Of == 0 {
				if c.byTicket[o.Ticket] == nil {
					return fmt.Errorf("%w: %v, which nobody was given", errImpossible, o)
				}
				o.Of = c.byTicket[o.Ticket].ID
			}
			of = c.byID[o.Of]
		}
		for _, got := range o.Got {
			if err := c.assign(of, got.Name, got.Token); err != nil {
				return err
			}
		}
	}
	return nil
}

// assign notes the token that an acquire got for a name.
func (c *completion) assign(o *Op, name string, token uint64) error {
	for i, w := range o.Wants {
		if w.Name != name {
			continue
		}
		if o.tokens[i] != 0 && o.tokens[i] != token {
			return fmt.Errorf("%w: %v was told tokens %d and %d for %s", errImpossible, o, o.tokens[i], token, name)
		}
		if other := c.byToken[token]; other != nil && other != o && !(o.Counts && other.Counts && o.Session == other.Session && o.Owner == other.Owner) {
			return fmt.Errorf("%w: token %d was given to %v and to %v", errImpossible, token, other, o)
		}
		o.tokens[i] = token
		if c.byToken[token] == nil {
			c.byToken[token] = o
		}
		return nil
	}
	return fmt.Errorf("%w: %v was granted %s, which it did not want", errImpossible, o, name)
}

// seen uses what other answers show of acquires whose callers learned less.
func (c *completion) seen() error {
	for _, o := range c.ops {
		for _, l := range o.Sight {
			for _, h := range l.Holders {
				if err := c.attribute(l.Name, h.Session, h.Token, o); err != nil {
					return err
				}
			}
			for _, w := range l.Queue {
				if err := c.attributeTicket(l.Name, w.Session, w.Ticket, o); err != nil {
					return err
				}
			}
		}
		if o.Heir.Session == "" || len(o.names()) == 0 {
			continue
		}
		name := o.names()[0]
		if o.Kind == HandOff {
			if err := c.attributeTicket(name, o.Heir.Session, o.Told, o); err != nil {
				return err
			}
		}
		if len(o.names()) > 1 {
			continue // the refusal of several names shows a holder, and not of which
		}
		if err := c.attribute(name, o.Heir.Session, o.Heir.Token, o); err != nil {
			return err
		}
	}
	return nil
}

// attribute finds the acquire that a token which was seen belongs to. When several could have got it none of them is settled.
func (c *completion) attribute(name, session string, token uint64, by *Op) error {
	if token == 0 {
		return nil
	}
	if o := c.byToken[token]; o != nil {
		if o.Session == session && o.tokenOf(name) == token {
			return nil
		}
		return fmt.Errorf("%w: %v shows token %d of %s at %s, %v has it", errImpossible, by, token, name, session, o)
	}
	found := c.candidates(name, session, by, func(o *Op) bool {
		return o.tokenOf(name) == 0 && (o.Outcome == Unknown || o.Outcome == Queued)
	})
	switch len(found) {
	case 0:
		return fmt.Errorf("%w: %v shows token %d of %s at %s, which asked for no such thing", errImpossible, by, token, name, session)
	case 1:
		found[0].prove(by)
		return c.assign(found[0], name, token)
	}
	return nil
}

func (c *completion) attributeTicket(name, session string, ticket uint64, by *Op) error {
	if o := c.byTicket[ticket]; o != nil && o.Session == session {
		return nil
	}
	found := c.candidates(name, session, by, func(o *Op) bool {
		return o.Told == 0 && o.Wait > 0 && (o.Outcome == Unknown || o.Outcome == Queued)
	})
	switch len(found) {
	case 0:
		return fmt.Errorf("%w: %v shows ticket %d for %s of %s, which asked for no such thing", errImpossible, by, ticket, name, session)
	case 1:
		found[0].prove(by)
		found[0].Outcome, found[0].Told, c.byTicket[ticket] = Queued, ticket, found[0]
	}
	return nil
}

func (c *completion) candidates(name, session string, by *Op, could func(*Op) bool) (found []*Op) {
	for _, o := range c.bySession[session] {
		if o.tokenOf(name) != noToken && o.Call <= by.Return && could(o) {
			found = append(found, o)
		}
	}
	return found
}

const noToken = ^uint64(0)

// tokenOf is the token that an acquire got for a name, as far as known; noToken when it does not want the name.
func (o *Op) tokenOf(name string) uint64 {
	for i, w := range o.Wants {
		if w.Name == name && i < len(o.tokens) {
			return o.tokens[i]
		}
	}
	return noToken
}

// prove notes that an operation had been applied when another was answered.
func (o *Op) prove(by *Op) {
	if o.Outcome == Unknown {
		o.proven, o.Return = true, min(o.Return, by.Return)
	}
}

// addEnds lets each session expire from when it may on, but for those that were there when their clients closed them.
func (c *completion) addEnds(earliest map[string]int64) {
	closed := map[string]bool{}
	for _, o := range c.ops {
		closed[o.Session] = closed[o.Session] || o.Kind == Finish && o.Outcome == Done
	}
	for session, at := range earliest {
		if !closed[session] {
			c.add(Op{Kind: Expire, Session: session, Call: at})
		}
	}
}

// grain is that of the deadlines in the log: whole milliseconds, so that one may be due by so much less than it was asked for. Leases are
// not among them: a session ends when its deadline has passed, not when it is reached.
const grain = int64(time.Millisecond)

// addTimers ends waits that nobody was told to be granted, and grants to waits that nobody was told of.
func (c *completion) addTimers() {
	told := map[int]bool{}
	for _, o := range c.ops {
		told[o.Of] = told[o.Of] || o.Kind == Attach && o.Outcome == Granted
	}
	for _, o := range c.ops {
		if o.Kind != Acquire || o.Wait == 0 || told[o.ID] || o.Outcome != Queued && o.Outcome != Unknown {
			continue
		}
		c.add(Op{Kind: TimeOut, Session: o.Session, Of: o.ID, Call: o.Call + int64(o.Wait) - grain})
		c.add(Op{Kind: Lapse, Session: o.Session, Of: o.ID, Call: o.Call + int64(o.Claim) - grain})
	}
}

func (c *completion) add(o Op) {
	o.ID, o.Client, o.Return = len(c.ops)+ownIDs, -1, Never
	c.ops = append(c.ops, &o)
}

// ownIDs is above all ids of recorded operations.
const ownIDs = 1 << 40
