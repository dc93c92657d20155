package quiescetest

import (
	"time"

	"github.com/quiescehq/quiesce/fsm"
)

// What a leader's tick and its expiry do. A timer wakes the node for the next deadline, so that nothing runs in between: a test that forgets
// to close a coordinator leaves no goroutine behind, and in a testing/synctest bubble time can jump from deadline to deadline.

// nextLocked is the cluster time at which there is something to do.
func (n *node) nextLocked() (uint64, bool) {
	first, due := n.leases.next()
	earliest := func(t uint64, is bool) {
		if is && (!due || t < first) {
			first, due = t, true
		}
	}
	earliest(n.state.NextWaitDeadline())
	lazy, is := n.state.NextDeadline()
	earliest(lazy+lazyMs, is)
	return first, due
}

// rearmLocked sets the alarm for the next deadline, if that is earlier than the one it is set for: an alarm that comes too early finds
// nothing due.
func (n *node) rearmLocked() {
	next, due := n.nextLocked()
	if !due || n.closed || !n.leading || n.alarm != nil && n.alarmFor <= next {
		return
	}
	d, comes := n.clock.until(next)
	if !comes {
		return
	}
	n.disarmLocked()
	n.alarms.Add(1)
	var set *time.Timer
	set = time.AfterFunc(d, func() {
		defer n.alarms.Done()
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.alarm == set { // else another has been set since this one went off
			n.alarm = nil
		}
		n.settleLocked()
		n.rearmLocked()
	})
	n.alarmFor, n.alarm = next, set
}

func (n *node) disarmLocked() {
	if n.alarm != nil && n.alarm.Stop() {
		n.alarms.Done()
	}
	n.alarm = nil
}

// settleLocked does what is due.
func (n *node) settleLocked() {
	if n.closed || !n.leading {
		return
	}
	for {
		now := n.clock.now()
		if ops := n.leases.due(now); len(ops) > 0 {
			if n.applyLocked(ops...)[0].Refused() {
				panic("quiescetest: a lease is not what the state says of it")
			}
			continue
		}
		urgent, waits := n.state.NextWaitDeadline()
		lazy, keeps := n.state.NextDeadline()
		if !(waits && urgent <= now) && !(keeps && lazy+lazyMs <= now) {
			return
		}
		n.applyLocked(fsm.Op{Command: fsm.Tick{}})
	}
}

// advance moves cluster time, from deadline to deadline: what would have come one after the other does so.
func (n *node) advance(ms uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	target := n.clock.now() + ms
	for n.leading && !n.closed {
		n.settleLocked()
		next, due := n.nextLocked()
		if !due || next > target {
			break
		}
		n.clock.moveTo(next)
	}
	n.clock.moveTo(target)
	n.settleLocked()
	n.disarmLocked()
	n.rearmLocked()
}

// expire ends sessions as if their holders had been silent for a TTL: all of them when no id is given.
func (n *node) expire(ids ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.leases.end(ids...)
	n.settleLocked()
	n.rearmLocked()
}
