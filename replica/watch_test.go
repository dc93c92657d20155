package replica

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/quiescehq/quiesce/fsm"
)

// A thousand wait for one lock. Each release wakes the one that it is granted to, and nobody else looks at anything.
func TestWatch_AThousandWaitersCostOneWakeUpAGrant(t *testing.T) {
	t.Parallel()
	const waiters = 1_000
	m := newMachine(func(err error) { t.Error(err) })
	index := uint64(0)
	do := func(c fsm.Command) fsm.Result {
		index++
		data := fsm.EncodeEntry(fsm.Entry{Now: index, Ops: []fsm.Op{{Command: c}}})
		return m.Apply(&raft.Log{Index: index, Term: 1, Data: data}).([]fsm.Result)[0]
	}
	do(fsm.TermStart{Node: "n"})
	do(fsm.OpenSession{ID: "s", TTLMs: fsm.SessionTTLMaxMs})
	acquire := func(owner int) *fsm.LockResult {
		return do(fsm.AcquireLock{Session: "s", Owner: strconv.Itoa(owner), Wants: []fsm.LockWant{{Name: "l"}}, WaitMs: fsm.WaitMaxMs}).Lock
	}
	token := acquire(-1).Grants[0].Token
	tickets, watches := make([]uint64, waiters), make([]*Watch, waiters)
	for i := range waiters {
		tickets[i] = acquire(i).Ticket
		watches[i] = m.watches.add("tickets", fmt.Sprint(tickets[i]))
	}
	for next := range waiters {
		if r := do(fsm.ReleaseLock{Session: "s", Locks: []fsm.HeldLock{{Name: "l", Token: token}}}); r.Refused() {
			t.Fatalf("release %d: %+v", next, r)
		}
		for i, w := range watches {
			select {
			case <-w.C:
				if i != next {
					t.Fatalf("release %d woke waiter %d", next, i)
				}
			default:
				if i == next {
					t.Fatalf("release %d woke nobody", next)
				}
			}
		}
		token = do(fsm.ClaimTicket{ID: tickets[next]}).Lock.Grants[0].Token
		<-watches[next].C // the claim is a change of the ticket
		watches[next].Close()
	}
}
