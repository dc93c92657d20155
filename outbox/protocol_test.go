package outbox_test

import "testing"

// This file goes through every interleaving of the protocol by which a row reaches the cache, in a model: two writers that commit, may invalidate, and enqueue; two workers that
// claim, begin, read, apply and settle; a reader that takes a lease, reads and fills. The model knows nothing of the code. What it shows is that the rules are enough, and, rule by rule,
// that each one is needed: without it some interleaving ends with an old value in the cache and nobody left to repair it.

// rules are what the protocol demands; the ablations leave one out each.
type rules struct {
	writeThrough bool // else events remove the key, and readers fill it
	invalidate   bool // writers remove the key after their commit, before they enqueue
	expiry       bool // keys and guards expire, at any moment that the deadlines allow
	restart      bool // Redis comes back once with an older value, and without guards

	anyToken     bool // apply compares no tokens
	tokenFirst   bool // events are enqueued before the commit
	values       bool // events carry the writer's value
	noLease      bool // readers fill whatever they have read
	replicaReads bool // workers and readers read from a replica
	noDeadline   bool // a write may arrive however long after its begin
	noReplay     bool // what a restart may have lost is not enqueued again
	settleAll    bool // a settlement takes newer events with it
}

// Steps of the actors.
const (
	idle = iota
	second
	third
	fourth
	done
)

// actor is a writer, a worker or the reader.
type actor struct {
	step  uint8
	token uint8 // worker: of the event under way
	begin uint8 // worker: Redis' clock at the begin; reader: the lease
	read  uint8 // value that was read
	late  bool  // worker: past its deadline
}

// world of the model. Values are the numbers of commits, 0 being that there is none.
type modelWorld struct {
	row, replica uint8 // last commit, and how far the replica is
	commits      uint8
	clock        uint8 // of Redis: counts its operations that matter
	cached       uint8
	guard        uint8 // token of the last write; 0: none
	fence        uint8 // clock of the last invalidate
	lease        uint8 // 0: none
	leases       uint8
	saved        uint8 // value of the dump
	restarted    bool
	tokens       uint8
	pending      uint8 // newest token of the row's event; 0: none
	carried      uint8 // value that the event carries
	writers      [2]actor
	workers      [2]actor
	reader       actor
}

// model explores.
type model struct {
	rules
	seen  map[modelWorld]bool
	ends  int
	stale int
}

// explore goes through all that can happen and counts the ends, and those that are stale.
func explore(r rules) *model {
	m := &model{rules: r, seen: map[modelWorld]bool{}}
	m.visit(modelWorld{clock: 1})
	return m
}

func (m *model) visit(w modelWorld) {
	if m.seen[w] {
		return
	}
	m.seen[w] = true
	moved := false
	try := func(next modelWorld, ok bool) {
		if ok {
			moved = true
			m.visit(next)
		}
	}
	for i := range w.writers {
		try(m.write(w, i))
	}
	for i := range w.workers {
		try(m.work(w, i))
	}
	try(m.fill(w))
	if m.replicaReads && w.replica != w.row {
		next := w
		next.replica = w.row
		try(next, true)
	}
	ended := !moved // what follows may happen at any time, but need not
	if m.expiry && !ended {
		m.expire(w)
	}
	if m.restart && !ended && !w.restarted {
		m.restartRedis(w)
	}
	if ended {
		m.ends++
		if w.cached != 0 && w.cached != w.row {
			m.stale++
		}
	}
}

// write is commit, invalidate, enqueue; with tokenFirst enqueue, commit, invalidate.
func (m *model) write(w modelWorld, i int) (modelWorld, bool) {
	a := &w.writers[i]
	step := a.step
	if m.tokenFirst {
		step = [...]uint8{third, idle, second, done}[min(a.step, 3)]
	} else if a.step >= third+1 {
		step = done
	}
	switch step {
	case idle:
		w.commits++
		w.row, a.read = w.commits, w.commits
	case second:
		if m.invalidate {
			w = w.invalidated()
			a = &w.writers[i]
		}
	case third:
		w.tokens++
		w.pending = w.tokens
		if m.values {
			w.carried = a.read
		}
	default:
		return w, false
	}
	a.step++
	return w, true
}

func (w modelWorld) invalidated() modelWorld {
	w.clock++
	w.cached, w.lease, w.fence = 0, 0, w.clock
	return w
}

// work is claim, begin, read, apply, settle, again and again while there is an event.
func (m *model) work(w modelWorld, i int) (modelWorld, bool) {
	a := &w.workers[i]
	switch a.step {
	case idle:
		if w.pending == 0 || w.workers[1-i].step != idle && w.workers[1-i].token == w.pending {
			return w, false
		}
		*a = actor{step: second, token: w.pending, read: w.carried}
	case second:
		w.clock++
		a.begin, a.step = w.clock, third
	case third:
		if !m.values {
			a.read = m.readable(w)
		}
		a.step = fourth
	case fourth:
		return m.apply(w, i), true
	case done:
		if w.pending == a.token || m.settleAll {
			w.pending = 0
		}
		*a = actor{}
	}
	return w, true
}

func (m *model) readable(w modelWorld) uint8 {
	if m.replicaReads {
		return w.replica
	}
	return w.row
}

// apply is the script. A write that was refused begins anew.
func (m *model) apply(w modelWorld, i int) modelWorld {
	a := &w.workers[i]
	switch {
	case a.late && !m.noDeadline, a.begin <= w.fence:
		a.step, a.late = second, false
		return w
	case a.token <= w.guard && !m.anyToken:
	default:
		w.cached, w.guard, w.lease = 0, a.token, 0
		if m.writeThrough {
			w.cached = a.read
		}
	}
	a.step = done
	return w
}

// fill is a reader that misses: lease, read, fill.
func (m *model) fill(w modelWorld) (modelWorld, bool) {
	a := &w.reader
	switch a.step {
	case idle:
		if w.cached != 0 || w.row == 0 {
			return w, false
		}
		w.leases++
		w.lease, a.begin, a.step = w.leases, w.leases, second
	case second:
		a.read, a.step = m.readable(w), third
	case third:
		if w.lease == a.begin || m.noLease {
			w.cached = a.read
		}
		w.lease, a.step = 0, done
		if m.noLease {
			w.lease = 0
		}
	default:
		return w, false
	}
	return w, true
}

// expire lets the key go, or the lease, or the guard. A guard outlives every deadline: when it goes, whatever began before its last write is late.
func (m *model) expire(w modelWorld) {
	if w.cached != 0 {
		next := w
		next.cached = 0
		m.visit(next)
	}
	if w.lease != 0 {
		next := w
		next.lease = 0
		m.visit(next)
	}
	if w.guard != 0 || w.fence != 0 {
		next := w
		next.guard, next.fence, next.lease = 0, 0, 0
		for i := range next.workers {
			next.workers[i].late = next.workers[i].step == third || next.workers[i].step == fourth
		}
		m.visit(next)
	}
}

// restartRedis brings back a value that was there before, without its guard. Connections are gone, so whatever was under way begins anew, and the row is enqueued again.
func (m *model) restartRedis(w modelWorld) {
	for old := uint8(0); old <= w.commits; old++ {
		next := w
		next.restarted, next.cached, next.guard, next.fence, next.lease = true, old, 0, 0, 0
		for i := range next.workers {
			if next.workers[i].step == third || next.workers[i].step == fourth {
				next.workers[i].step = second
			}
		}
		if !m.noReplay {
			next.tokens++
			next.pending = next.tokens
		}
		m.visit(next)
	}
}

// TestProtocol_NoInterleavingEndsStale: in both modes, with and without invalidates of the writers, then with expiry, then with a restart of Redis.
func TestProtocol_NoInterleavingEndsStale(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]rules{
		"write-through":                  {writeThrough: true},
		"write-through, invalidates":     {writeThrough: true, invalidate: true},
		"invalidate":                     {},
		"invalidate, invalidates":        {invalidate: true},
		"write-through, expiry":          {writeThrough: true, invalidate: true, expiry: true},
		"invalidate, expiry":             {invalidate: true, expiry: true},
		"write-through, restart":         {writeThrough: true, restart: true},
		"invalidate, invalidates, crash": {invalidate: true, restart: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := explore(r)
			if m.stale != 0 || m.ends == 0 {
				t.Errorf("%d of %d ends are stale", m.stale, m.ends)
			}
			t.Logf("%d states, %d ends", len(m.seen), m.ends)
		})
	}
}

// TestProtocol_EachRuleIsNeeded: without it some interleaving ends stale.
func TestProtocol_EachRuleIsNeeded(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]rules{
		"tokens are compared":               {writeThrough: true, anyToken: true},
		"tokens are given after the commit": {writeThrough: true, tokenFirst: true},
		"events carry no values":            {writeThrough: true, values: true},
		"readers fill under a lease":        {noLease: true},
		"rows are read from the primary":    {writeThrough: true, replicaReads: true},
		"readers read from the primary":     {invalidate: true, replicaReads: true},
		"late writes are refused":           {writeThrough: true, expiry: true, noDeadline: true},
		"what a restart lost is enqueued":   {writeThrough: true, restart: true, noReplay: true},
		"a settlement leaves newer events":  {writeThrough: true, settleAll: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := explore(r)
			if m.stale == 0 {
				t.Errorf("none of %d ends is stale", m.ends)
			}
			t.Logf("%d states, %d of %d ends are stale", len(m.seen), m.stale, m.ends)
		})
	}
}
