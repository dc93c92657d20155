package outbox

import (
	"time"

	"github.com/quiescehq/quiesce/fsm"
)

// plan is what one look at the state found.
type plan struct {
	due     []dueRows     // batches to start
	changed []fsm.Mapping // have pending events and a revision that no lane has yet
	wait    time.Duration // until the next attempt or probe; never if there is none
}

type dueRows struct {
	lane   *lane
	events []fsm.Event
}

// plan looks once for all free places, since every look holds the state's lock.
func (r *run) plan() plan {
	p := planner{run: r, now: r.log.Now(), blocked: map[string]string{}}
	p.out.wait = never
	r.log.View(p.look)
	r.task.noteBlocked(p.blocked)
	return p.share()
}

// planner collects due events of at most as many mappings as there are batches to start.
type planner struct {
	run   *run
	now   uint64
	found []candidate
	out   plan

	blocked map[string]string // of the mappings that were visited: why nothing of theirs is delivered, or empty
}

type candidate struct {
	lane   *lane
	rows   int // of one batch
	events []fsm.Event
}

// look starts behind the mapping that was served last, so that a busy one cannot starve the others.
func (p *planner) look(s *fsm.State) {
	last := p.run.last
	s.Mappings(last, func(m fsm.Mapping) bool { return m.Name == last || p.visit(s, m) })
	s.Mappings("", func(m fsm.Mapping) bool { return m.Name <= last && p.visit(s, m) })
}

// visit tells whether to go on to the next mapping.
func (p *planner) visit(s *fsm.State, m fsm.Mapping) bool {
	l := p.run.lanes[m.Name]
	switch {
	case len(p.found) == p.run.free:
		return false
	case s.Pending(m.Name) == 0:
		p.blocked[m.Name] = ""
		return true
	case s.Paused(m):
		return true // whatever else holds them up is found out when they go on
	case l == nil || l.revision != m.Revision:
		p.out.changed = append(p.out.changed, m)
		return true
	case l.blocked != "":
		p.blocked[m.Name] = l.blocked
		return true
	}
	rows, wait := l.room()
	p.blocked[m.Name] = l.down()
	if rows == 0 {
		if wait > 0 {
			p.sooner(wait)
		}
		return true
	}
	if events := p.collect(s, m.Name, rows*p.run.free); len(events) > 0 {
		p.found = append(p.found, candidate{lane: l, rows: rows, events: events})
	}
	return true
}

// collect takes due events that are in no batch. The first that is not due yet, and in no batch, says when to look again.
func (p *planner) collect(s *fsm.State, mapping string, limit int) []fsm.Event {
	var events []fsm.Event
	s.DueEventsBut(mapping, p.run.ledger.claimed, func(e fsm.Event) bool {
		if e.NextAt > p.now {
			p.sooner(time.Duration(e.NextAt-p.now) * time.Millisecond)
			return false
		}
		events = append(events, e)
		return len(events) < limit
	})
	return events
}

func (p *planner) sooner(wait time.Duration) {
	if p.out.wait == never || wait < p.out.wait {
		p.out.wait = wait
	}
}

// share gives every mapping one batch before any gets a second.
func (p *planner) share() plan {
	for free := p.run.free; free > 0 && len(p.found) > 0; {
		rest := p.found[:0]
		for _, c := range p.found {
			if free == 0 {
				break
			}
			n := min(c.rows, len(c.events))
			p.out.due = append(p.out.due, dueRows{lane: c.lane, events: c.events[:n:n]})
			free--
			if c.events = c.events[n:]; len(c.events) > 0 {
				rest = append(rest, c)
			}
		}
		p.found = rest
	}
	return p.out
}
