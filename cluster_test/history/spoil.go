package history

import "slices"

// Spoiled is a history with one lie in it.
type Spoiled struct {
	Lie     string
	History History
}

// What Spoil can tell.
const (
	lieTokensFall   = "the tokens of two grants, one after the other, are exchanged"
	lieTwoHolders   = "a refusal, while another held the lock, is a grant"
	lieQueueBarged  = "the tokens of two waits, one behind the other, are exchanged"
	lieExpiredEarly = "a session that had expired was renewed later than it was found gone"
)

// Lies are all of them.
var Lies = []string{lieTokensFall, lieTwoHolders, lieQueueBarged, lieExpiredEarly}

// Spoil makes a history wrong in each way for which it has an occasion, so that no order of it can be right: a checker that accepts one
// of them checks nothing.
func Spoil(h History) (out []Spoiled) {
	for i, tell := range []func(*History) bool{tokensFall, twoHolders, queueBarged, expiredEarly} {
		if wrong := h.clone(); tell(&wrong) {
			out = append(out, Spoiled{Lie: Lies[i], History: wrong})
		}
	}
	return out
}

func (h History) clone() History {
	out := History{Ops: slices.Clone(h.Ops), EarliestEnd: map[string]int64{}}
	for session, at := range h.EarliestEnd {
		out.EarliestEnd[session] = at
	}
	for i := range out.Ops {
		o := &out.Ops[i]
		o.Got, o.Grants, o.Sight = slices.Clone(o.Got), slices.Clone(o.Grants), slices.Clone(o.Sight)
		for j := range o.Sight {
			o.Sight[j].Holders = slices.Clone(o.Sight[j].Holders)
		}
	}
	return out
}

// tokens visits every token in a history.
func (h *History) tokens(visit func(token *uint64)) {
	for i := range h.Ops {
		o := &h.Ops[i]
		for j := range o.Got {
			visit(&o.Got[j].Token)
		}
		for j := range o.Grants {
			visit(&o.Grants[j].Token)
		}
		for _, l := range o.Sight {
			for j := range l.Holders {
				visit(&l.Holders[j].Token)
			}
		}
		visit(&o.Heir.Token)
	}
}

func (h *History) exchange(a, b uint64) {
	h.tokens(func(token *uint64) {
		switch *token {
		case a:
			*token = b
		case b:
			*token = a
		}
	})
}

// alone tells whether an acquire is of one exclusive lock, and by an owner that does not count.
func (o *Op) alone() bool {
	return o.Kind == Acquire && len(o.Wants) == 1 && o.Wants[0].Mode == Exclusive && !o.Counts
}

func tokensFall(h *History) bool {
	for i := range h.Ops {
		for j := range h.Ops {
			a, b := &h.Ops[i], &h.Ops[j]
			if a.alone() && b.alone() && a.Outcome == Granted && b.Outcome == Granted && a.Return < b.Call && a.Wants[0] == b.Wants[0] {
				h.exchange(a.Got[0].Token, b.Got[0].Token)
				return true
			}
		}
	}
	return false
}

// twoHolders looks for a lock that was certainly held all through a refusal: its holder had been told before, and nothing was under way by
// which it could lose it.
func twoHolders(h *History) bool {
	for i := range h.Ops {
		for j := range h.Ops {
			holder, other := &h.Ops[i], &h.Ops[j]
			if len(holder.Got) != 1 || !other.alone() || other.Outcome != Held || other.Session == holder.Session || holder.Return >= other.Call ||
				holder.Got[0].Name != other.Wants[0].Name || !h.exclusive(holder.Got[0].Name) || !h.keeps(holder, other.Return) {
				continue
			}
			token := 2*holder.Got[0].Token + 1
			h.tokens(func(t *uint64) { *t *= 2 }) // so that there is one in between
			other.Outcome, other.Got, other.Heir = Granted, []Grant{{Name: other.Wants[0].Name, Token: token}}, Holder{}
			return true
		}
	}
	return false
}

// exclusive tells whether nobody wants a name in another way than alone.
func (h *History) exclusive(name string) bool {
	return !slices.ContainsFunc(h.Ops, func(o Op) bool { return o.Kind == Acquire && slices.Contains(o.names(), name) && !o.alone() })
}

// keeps tells whether a holder has done nothing until a time by which it could have lost the lock.
func (h *History) keeps(holder *Op, until int64) bool {
	if at, leased := h.EarliestEnd[holder.Session]; leased && at <= until && !h.closedLater(holder.Session, until) {
		return false
	}
	return !slices.ContainsFunc(h.Ops, func(o Op) bool {
		ends := o.Kind == Release || o.Kind == Downgrade || o.Kind == HandOff || o.Kind == Finish || o.Kind == Renew
		return ends && o.Session == holder.Session && o.Call <= until && o.Return >= holder.Return
	})
}

// closedLater tells whether a session was there still when it was closed, after a time.
func (h *History) closedLater(session string, after int64) bool {
	return slices.ContainsFunc(h.Ops, func(o Op) bool {
		return o.Kind == Finish && o.Session == session && o.Outcome == Done && o.Call > after
	})
}

func queueBarged(h *History) bool {
	if slices.ContainsFunc(h.Ops, func(o Op) bool { return o.Kind == HandOff }) {
		return false // may overtake
	}
	token := map[uint64]uint64{} // by ticket
	for _, o := range h.Ops {
		if o.Kind == Attach && o.Outcome == Granted && o.Ticket != 0 && len(o.Got) == 1 {
			token[o.Ticket] = o.Got[0].Token
		}
	}
	for i := range h.Ops {
		for j := range h.Ops {
			a, b := &h.Ops[i], &h.Ops[j]
			if a.alone() && b.alone() && a.Outcome == Queued && b.Outcome == Queued && a.Wants[0] == b.Wants[0] && a.Return < b.Call &&
				token[a.Told] != 0 && token[b.Told] != 0 {
				h.exchange(token[a.Told], token[b.Told])
				return true
			}
		}
	}
	return false
}

// expiredEarly pretends that a session which was found to be gone had been renewed.
func expiredEarly(h *History) bool {
	for i := range h.Ops {
		o := &h.Ops[i]
		if o.Kind == Renew && o.Outcome == Gone && !slices.ContainsFunc(h.Ops, func(f Op) bool { return f.Kind == Finish && f.Session == o.Session }) &&
			h.EarliestEnd[o.Session] > 0 {
			h.EarliestEnd[o.Session] = o.Return + 1
			return true
		}
	}
	return false
}
