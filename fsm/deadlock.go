package fsm

// WaitFor is one step of a circle of waits: a ticket, the name that it waits for, and who is in the way.
type WaitFor struct {
	Ticket    uint64
	Session   string
	Owner     string
	Name      string
	BlockedBy string // session
	ByTurn    bool   // it stands before this wait in the queue, and holds nothing of the name
}

// Bounds of the search, in waits looked at. Whoever begins to wait is told of a circle that is found within the smaller one.
const (
	cycleStepsMax    = 1_000
	deadlockStepsMax = 100_000
	deadlocksMax     = 100
)

// The graph: a ticket waits for the tickets of everybody who holds one of its names incompatibly, and for the ticket before it in each of
// its queues. Steps by turn lead to older tickets only, so a circle has a step to a holder.

// Cycle finds the circle of waits that a new ticket closes. It looks at a bounded number of waits: in a long queue a circle may go unseen
// here, and is found by Deadlocks. Nobody waits yet behind a new ticket, so only an owner that holds something can close a circle.
func (s *State) Cycle(ticket uint64) []WaitFor {
	t, ok := s.tickets.get(ticket)
	if !ok || t.State != TicketWaiting || s.holding[t.Acquire.party()] == 0 {
		return nil
	}
	search := cycleSearch{s: s, left: cycleStepsMax, state: map[uint64]visit{}}
	for _, cycle := range search.from(t) {
		if cycle[0].Ticket == ticket {
			return cycle
		}
	}
	return nil
}

// Deadlocks lists circles of waits, one for each knot. Cut tells that there was more to look at.
func (s *State) Deadlocks() (cycles [][]WaitFor, cut bool) {
	search := cycleSearch{s: s, left: deadlockStepsMax, state: map[uint64]visit{}}
	s.tickets.ascend(0, func(_ uint64, t Ticket) bool {
		search.left--
		if t.State == TicketWaiting && s.holding[t.Acquire.party()] > 0 && search.state[t.ID] == unseen {
			cycles = append(cycles, search.from(t)...)
		}
		return search.left > 0 && len(cycles) < deadlocksMax
	})
	return cycles, search.left <= 0 || len(cycles) >= deadlocksMax
}

type visit uint8

const (
	unseen visit = iota
	onPath
	finished
)

type cycleSearch struct {
	s     *State
	left  int
	state map[uint64]visit
}

// frame is a ticket on the path with the steps that are still to be taken from it.
type frame struct {
	ticket Ticket
	steps  []step
	taken  WaitFor // the step to the next frame
}

type step struct {
	to   uint64
	edge WaitFor
}

// from searches in depth, without recursion: a path can be as long as a queue.
func (c *cycleSearch) from(t Ticket) (cycles [][]WaitFor) {
	path := []*frame{c.frame(t)}
	for len(path) > 0 && c.left > 0 {
		top := path[len(path)-1]
		if len(top.steps) == 0 {
			c.state[top.ticket.ID] = finished
			path = path[:len(path)-1]
			continue
		}
		c.left--
		next := top.steps[0]
		top.steps, top.taken = top.steps[1:], next.edge
		switch c.state[next.to] {
		case onPath:
			cycles = append(cycles, circle(path, next.to))
		case unseen:
			u, _ := c.s.tickets.get(next.to)
			path = append(path, c.frame(u))
		}
	}
	return cycles
}

func circle(path []*frame, from uint64) []WaitFor {
	for i, f := range path {
		if f.ticket.ID != from {
			continue
		}
		var out []WaitFor
		for _, f := range path[i:] {
			out = append(out, f.taken)
		}
		return out
	}
	return nil
}

func (c *cycleSearch) frame(t Ticket) *frame {
	c.state[t.ID] = onPath
	f := &frame{ticket: t}
	for _, w := range t.Acquire.Wants {
		if c.s.counts(t.Acquire.party(), w, t.Acquire.Reentrant) {
			continue
		}
		c.holders(f, w)
		if p, ok := c.s.queues.before(pair{group: w.Name, num: t.ID}); ok {
			before, _ := c.s.tickets.get(p.num)
			f.add(p.num, w.Name, before.Session(), true)
		}
	}
	return f
}

// holders adds the steps to those who hold a name incompatibly, and wait for something themselves.
func (c *cycleSearch) holders(f *frame, w LockWant) {
	if c.s.fits(w) {
		return
	}
	c.s.Grants(w.Name, func(g Grant) bool {
		c.left--
		c.s.asking.each(g.party().group(), func(p pair) bool {
			f.add(p.num, w.Name, g.Session, false)
			c.left--
			return c.left > 0
		})
		return c.left > 0
	})
}

func (f *frame) add(to uint64, name, session string, turn bool) {
	f.steps = append(f.steps, step{to, WaitFor{Ticket: f.ticket.ID, Session: f.ticket.Session(), Owner: f.ticket.Acquire.Owner,
		Name: name, BlockedBy: session, ByTurn: turn}})
}
