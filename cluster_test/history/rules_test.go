package history

import (
	"errors"
	"testing"
	"time"
)

const enough = 20 * time.Second

// This is the rule book, by example: for each rule a history that keeps it and one that breaks it. Times are in small numbers,
// the last two of each operation: called and returned.
func TestCheck_AcceptsWhatTheRulesAllowAndNothingElse(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		ends map[string]int64 // when sessions may expire
		ops  []Op
		bad  bool
	}{
		{name: "one after the other", ops: []Op{
			try("a", "x", 1, 0, 1), release("a", "x", 1, 2, 3), try("b", "x", 2, 4, 5)}},
		{name: "two holders at once", bad: true, ops: []Op{
			try("a", "x", 1, 0, 1), try("b", "x", 2, 2, 3), release("a", "x", 1, 4, 5)}},
		{name: "two holders that may have followed each other", ops: []Op{
			try("a", "x", 1, 0, 3), release("a", "x", 1, 4, 8), try("b", "x", 2, 5, 7)}},
		{name: "refused while it was held", ops: []Op{
			try("a", "x", 1, 0, 1), refused("b", "x", 2, 3), release("a", "x", 1, 4, 5)}},
		{name: "refused though it was free", bad: true, ops: []Op{
			try("a", "x", 1, 0, 1), release("a", "x", 1, 2, 3), refused("b", "x", 4, 5)}},
		{name: "a token that falls", bad: true, ops: []Op{
			try("a", "x", 7, 0, 1), release("a", "x", 7, 2, 3), try("b", "x", 6, 4, 5)}},
		{name: "a token given twice", bad: true, ops: []Op{
			try("a", "x", 7, 0, 1), release("a", "x", 7, 2, 3), try("b", "x", 7, 4, 5)}},
		{name: "released by another token", bad: true, ops: []Op{
			try("a", "x", 1, 0, 1), release("a", "x", 9, 2, 3)}},
		{name: "not the holder, and so it was", ops: []Op{
			try("a", "x", 1, 0, 1), with(release("a", "x", 9, 2, 3), NotHolder), release("a", "x", 1, 4, 5)}},
		{name: "the holder denied", bad: true, ops: []Op{
			try("a", "x", 1, 0, 1), with(release("a", "x", 1, 2, 3), NotHolder)}},

		{name: "validated while it is held", ops: []Op{
			try("a", "x", 1, 0, 1), validate("x", 1, true, 2, 3), release("a", "x", 1, 4, 5), validate("x", 1, false, 6, 7)}},
		{name: "validated after its release", bad: true, ops: []Op{
			try("a", "x", 1, 0, 1), release("a", "x", 1, 2, 3), validate("x", 1, true, 4, 5)}},
		{name: "a look that shows another holder", bad: true, ops: []Op{
			try("a", "x", 1, 0, 1), try("b", "y", 2, 0, 1), look("x", Seen{Name: "x", Holders: []Holder{{Session: "b", Token: 1}}}, 2, 3)}},
		{name: "a look that shows nobody", bad: true, ops: []Op{
			try("a", "x", 1, 0, 1), look("x", Seen{}, 2, 3)}},

		{name: "a silent holder is followed when its time is over", ends: map[string]int64{"a": 10}, ops: []Op{
			try("a", "x", 1, 0, 1), try("b", "x", 2, 9, 12)}},
		{name: "a live holder loses the lock", bad: true, ends: map[string]int64{"a": 10}, ops: []Op{
			try("a", "x", 1, 0, 1), try("b", "x", 2, 5, 9)}},
		{name: "a waiter is granted before the holder may expire", bad: true, ends: map[string]int64{"a": 20}, ops: []Op{
			try("a", "x", 1, 0, 1), wait("b", "x", 2, 2, 3), attach(2, 5, 10, "x", 3)}},
		{name: "a keepalive finds the session gone in time", ends: map[string]int64{"a": 10}, ops: []Op{
			try("a", "x", 1, 0, 1), {Kind: Renew, Session: "a", Outcome: Gone, Call: 11, Return: 12}}},
		{name: "a keepalive finds the session gone too early", bad: true, ends: map[string]int64{"a": 10}, ops: []Op{
			try("a", "x", 1, 0, 1), {Kind: Renew, Session: "a", Outcome: Gone, Call: 7, Return: 9}}},
		{name: "a closed session frees its locks", ends: map[string]int64{"a": 100}, ops: []Op{
			try("a", "x", 1, 0, 1), finish("a", 2, 3), try("b", "x", 2, 4, 5)}},
		{name: "a closed session takes another lock", bad: true, ends: map[string]int64{"a": 100}, ops: []Op{
			finish("a", 2, 3), try("a", "x", 2, 4, 5)}},

		{name: "first come, first served", ops: []Op{
			try("a", "x", 1, 0, 1), wait("b", "x", 2, 2, 3), wait("c", "x", 3, 4, 5), release("a", "x", 1, 6, 7),
			attach(2, 8, 9, "x", 4), release("b", "x", 4, 10, 11), attach(3, 12, 13, "x", 5)}},
		{name: "the second in line is served first", bad: true, ops: []Op{
			try("a", "x", 1, 0, 1), wait("b", "x", 2, 2, 3), wait("c", "x", 3, 4, 5), release("a", "x", 1, 6, 7),
			attach(3, 8, 9, "x", 4), release("c", "x", 4, 10, 11), attach(2, 12, 13, "x", 5)}},
		{name: "a try barges over the queue", bad: true, ops: []Op{
			try("a", "x", 1, 0, 1), wait("b", "x", 2, 2, 3), release("a", "x", 1, 4, 5), try("c", "x", 3, 6, 7), stands(2, Queued, 8, 9)}},
		{name: "a ticket is lost", bad: true, ops: []Op{
			try("a", "x", 1, 0, 1), wait("b", "x", 2, 2, 3), release("a", "x", 1, 4, 5), stands(2, Lost, 6, 7)}},
		{name: "a ticket waits while nothing stands in its way", bad: true, ops: []Op{
			try("a", "x", 1, 0, 1), wait("b", "x", 2, 2, 3), release("a", "x", 1, 4, 5), stands(2, Queued, 6, 7)}},
		{name: "a ticket that nobody was given", bad: true, ops: []Op{stands(2, Queued, 6, 7)}},
		{name: "a ticket with two tokens", bad: true, ops: []Op{
			try("a", "x", 1, 0, 1), wait("b", "x", 2, 2, 3), release("a", "x", 1, 4, 5), attach(2, 6, 7, "x", 3), attach(2, 8, 9, "x", 4)}},
		{name: "tokens in another order than the queue", bad: true, ops: []Op{
			try("a", "x", 1, 0, 1), wait("b", "x", 2, 2, 3), wait("c", "x", 3, 4, 5), release("a", "x", 1, 6, 7),
			attach(2, 8, 20, "x", 9), release("b", "x", 9, 10, 21), attach(3, 12, 22, "x", 8)}},
		{name: "a wait ends at its time", ops: []Op{
			try("a", "x", 1, 0, 1), wait("b", "x", 2, 2, 3), stands(2, TimedOut, 2+patience, 3+patience)}},
		{name: "a wait ends too early", bad: true, ops: []Op{
			try("a", "x", 1, 0, 1), wait("b", "x", 2, 2, 3), stands(2, TimedOut, 4, patience)}},
		{name: "a cancelled wait makes room", ops: []Op{
			try("a", "x", 1, 0, 1), wait("b", "x", 2, 2, 3), wait("c", "x", 3, 4, 5), cancel(2, Done, 6, 7), release("a", "x", 1, 8, 9),
			attach(3, 10, 11, "x", 4), stands(2, Ended, 12, 13)}},
		{name: "a grant that nobody came for lapses", ops: []Op{
			try("a", "x", 1, 0, 1), wait("b", "x", 2, 2, 3), release("a", "x", 1, 4, 5), try("c", "x", 4, 2+claim, 5+claim), stands(2, Ended, 6+claim, 7+claim)}},
		{name: "a grant lapses too early", bad: true, ops: []Op{
			try("a", "x", 1, 0, 1), wait("b", "x", 2, 2, 3), release("a", "x", 1, 4, 5), try("c", "x", 4, 6, claim)}},
		{name: "a grant that was told lapses", bad: true, ops: []Op{
			try("a", "x", 1, 0, 1), wait("b", "x", 2, 2, 3), release("a", "x", 1, 4, 5), attach(2, 6, 7, "x", 3), try("c", "x", 4, 6+claim, 7+claim)}},

		{name: "a wait ends with its session", ops: []Op{
			try("a", "x", 1, 0, 1), wait("b", "x", 2, 2, 3), finish("b", 4, 5), stands(2, Gone, 6, 7)}},
		{name: "a wait ends with a session that is there", bad: true, ops: []Op{
			try("a", "x", 1, 0, 1), wait("b", "x", 2, 2, 3), stands(2, Gone, 4, 5)}},
		{name: "a wait ends for no reason", bad: true, ops: []Op{
			try("a", "x", 1, 0, 1), wait("b", "x", 2, 2, 3), stands(2, Ended, 4, 5)}},
		{name: "a session is closed twice", bad: true, ops: []Op{
			try("a", "x", 1, 0, 1), finish("a", 2, 3), finish("a", 4, 5)}},
		{name: "a look shows the queue in another order", bad: true, ops: []Op{
			try("a", "x", 1, 0, 1), wait("b", "x", 2, 2, 3), wait("c", "x", 3, 4, 5),
			look("x", Seen{Name: "x", Holders: []Holder{{Session: "a", Token: 1}}, Queue: []Waiting{{"c", 3}, {"b", 2}}}, 6, 7)}},
		{name: "one waits for what one holds", bad: true, ops: []Op{
			try("a", "x", 1, 0, 1), wait("a", "x", 2, 2, 3)}},
		{name: "one is refused to wait for what one holds", ops: []Op{
			try("a", "x", 1, 0, 1), with(wait("a", "x", 0, 2, 3), Held)}},
		{name: "tokens fall between names that are taken together", bad: true, ops: []Op{
			both("a", 5, 6, 0, 1), releaseBoth("a", 5, 6, 2, 3), try("b", "x", 9, 4, 5), try("b", "y", 8, 6, 7)}},
		{name: "tokens of readers that come in together are in another order than the queue", bad: true, ops: []Op{
			try("w", "x", 1, 0, 1), waitShared("a", "x", 2, 2, 3), waitShared("b", "x", 3, 4, 5), release("w", "x", 1, 6, 7),
			attach(2, 8, 9, "x", 5), attach(3, 10, 11, "x", 4)}},

		{name: "readers together, writers alone", ops: []Op{
			shared("a", "x", 1, 0, 1), shared("b", "x", 2, 2, 3), refused("c", "x", 4, 5), release("a", "x", 1, 6, 7), release("b", "x", 2, 8, 9), try("c", "x", 3, 10, 11)}},
		{name: "a writer among readers", bad: true, ops: []Op{
			shared("a", "x", 1, 0, 1), shared("b", "x", 2, 2, 3), release("a", "x", 1, 4, 5), try("c", "x", 3, 6, 7)}},
		{name: "a reader overtakes a writer that waits", bad: true, ops: []Op{
			shared("a", "x", 1, 0, 1), wait("w", "x", 2, 2, 3), shared("b", "x", 3, 4, 5), stands(2, Queued, 6, 7)}},
		{name: "readers behind a writer come together", ops: []Op{
			try("w", "x", 1, 0, 1), waitShared("a", "x", 2, 2, 3), waitShared("b", "x", 3, 4, 5), release("w", "x", 1, 6, 7),
			attach(2, 8, 9, "x", 4), attach(3, 10, 11, "x", 5)}},
		{name: "a downgrade lets readers in", ops: []Op{
			try("w", "x", 1, 0, 1), waitShared("a", "x", 2, 2, 3), downgrade("w", "x", 1, 4, 5), attach(2, 6, 7, "x", 3), validate("x", 1, true, 8, 9)}},
		{name: "a downgrade lets a writer in", bad: true, ops: []Op{
			try("w", "x", 1, 0, 1), wait("a", "x", 2, 2, 3), downgrade("w", "x", 1, 4, 5), attach(2, 6, 7, "x", 3)}},

		{name: "permits up to the limit", ops: []Op{
			permits("a", "x", 2, 1, 0, 1), permits("b", "x", 1, 2, 2, 3), with(permits("c", "x", 1, 0, 4, 5), Held), release("a", "x", 1, 6, 7), permits("c", "x", 2, 3, 8, 9)}},
		{name: "permits above the limit", bad: true, ops: []Op{
			permits("a", "x", 2, 1, 0, 1), permits("b", "x", 2, 2, 2, 3)}},
		{name: "permits refused below the limit", bad: true, ops: []Op{
			permits("a", "x", 1, 1, 0, 1), with(permits("b", "x", 2, 0, 2, 3), Held)}},

		{name: "several names, all or none", ops: []Op{
			both("a", 1, 2, 0, 1), refused("b", "x", 2, 3), refused("b", "y", 4, 5), releaseBoth("a", 1, 2, 6, 7), try("b", "y", 3, 8, 9)}},
		{name: "half of several names", bad: true, ops: []Op{
			both("a", 1, 2, 0, 1), try("b", "y", 3, 2, 3)}},
		{name: "several names while one is held", bad: true, ops: []Op{
			try("b", "y", 1, 0, 1), both("a", 2, 3, 2, 3)}},
		{name: "a later ticket passes one that waits for two", bad: true, ops: []Op{
			try("h", "y", 1, 0, 1), waitBoth("a", 2, 2, 3), try("b", "x", 3, 4, 5), stands(2, Queued, 6, 7)}},
		{name: "a later ticket is served before one that waits for two", bad: true, ops: []Op{
			try("g", "x", 1, 0, 1), try("h", "y", 2, 2, 3), waitBoth("a", 3, 4, 5), wait("b", "x", 4, 6, 7), release("g", "x", 1, 8, 9), attach(4, 10, 11, "x", 5)}},
		{name: "the ticket for two goes when both are free", ops: []Op{
			try("h", "y", 1, 0, 1), waitBoth("a", 2, 2, 3), wait("b", "x", 3, 4, 5), release("h", "y", 1, 6, 7),
			told(stands(2, Granted, 8, 9), Grant{Name: "x", Token: 4}, Grant{Name: "y", Token: 5}), releaseBoth("a", 4, 5, 10, 11), attach(3, 12, 13, "x", 6)}},
		{name: "half of a release", bad: true, ops: []Op{
			both("a", 1, 2, 0, 1), with(releaseBoth("a", 1, 9, 2, 3), NotHolder), try("b", "x", 3, 4, 5)}},

		{name: "a reentrant lock is counted", ops: []Op{
			again("a", "o", 1, 1, 0, 1), again("a", "o", 1, 2, 2, 3), release("a", "x", 1, 4, 5), refused("b", "x", 6, 7), release("a", "x", 1, 8, 9), try("b", "x", 2, 10, 11)}},
		{name: "a reentrant lock is free too early", bad: true, ops: []Op{
			again("a", "o", 1, 1, 0, 1), again("a", "o", 1, 2, 2, 3), release("a", "x", 1, 4, 5), try("b", "x", 2, 6, 7)}},
		{name: "a reentrant lock gets another token", bad: true, ops: []Op{
			again("a", "o", 1, 1, 0, 1), again("a", "o", 2, 2, 2, 3)}},
		{name: "another owner of the session comes in", bad: true, ops: []Op{
			again("a", "o", 1, 1, 0, 1), again("a", "p", 2, 1, 2, 3)}},
		{name: "another owner of the session is refused", ops: []Op{
			again("a", "o", 1, 1, 0, 1), with(again("a", "p", 0, 1, 2, 3), Held)}},
		{name: "a wrong count", bad: true, ops: []Op{
			again("a", "o", 1, 1, 0, 1), again("a", "o", 1, 3, 2, 3)}},

		{name: "a hand-off goes to the first in line", ops: []Op{
			try("a", "x", 1, 0, 1), wait("b", "x", 2, 2, 3), wait("c", "x", 3, 4, 5), handOff("a", 1, "", "b", 4, 2, 6, 7), attach(2, 8, 9, "x", 4)}},
		{name: "a hand-off goes to the named one", ops: []Op{
			try("a", "x", 1, 0, 1), wait("b", "x", 2, 2, 3), wait("c", "x", 3, 4, 5), handOff("a", 1, "c", "c", 4, 3, 6, 7), attach(3, 8, 9, "x", 4), stands(2, Queued, 10, 11)}},
		{name: "a hand-off goes past the first in line", bad: true, ops: []Op{
			try("a", "x", 1, 0, 1), wait("b", "x", 2, 2, 3), wait("c", "x", 3, 4, 5), handOff("a", 1, "", "c", 4, 3, 6, 7)}},
		{name: "no successor, and nobody waits", ops: []Op{
			try("a", "x", 1, 0, 1), with(handOff("a", 1, "", "", 0, 0, 2, 3), NoSuccessor), validate("x", 1, true, 4, 5)}},
		{name: "no successor, for the first in line waits for two", ops: []Op{
			try("a", "x", 1, 0, 1), waitBoth("b", 2, 2, 3), wait("c", "x", 3, 4, 5), with(handOff("a", 1, "", "", 0, 0, 6, 7), NoSuccessor)}},
		{name: "no successor though one waits", bad: true, ops: []Op{
			try("a", "x", 1, 0, 1), wait("b", "x", 2, 2, 3), with(handOff("a", 1, "", "", 0, 0, 4, 5), NoSuccessor)}},

		{name: "what was not learned may have happened", ops: []Op{
			unknown(try("a", "x", 0, 0, 1)), refused("b", "x", 2, 3)}},
		{name: "what was not learned may not have happened", ops: []Op{
			unknown(try("a", "x", 0, 0, 1)), try("b", "x", 1, 2, 3)}},
		{name: "what was not learned was seen", bad: true, ops: []Op{
			unknown(try("a", "x", 0, 0, 1)), seeing(refused("b", "x", 2, 3), "a", 1), try("c", "x", 2, 4, 5)}},
		{name: "what was not learned happened after a seen release", ops: []Op{
			try("a", "x", 1, 0, 1), unknown(release("a", "x", 1, 2, 3)), refused("b", "x", 4, 5), try("b", "x", 2, 6, 7)}},
		{name: "a wait of which nothing was learned stands in line when it was seen there", bad: true, ops: []Op{
			try("a", "x", 1, 0, 1), unknown(wait("b", "x", 0, 2, 3)), look("x", inLine, 4, 5), release("a", "x", 1, 6, 7), try("c", "x", 10, 8, 9)}},
		{name: "a wait of which nothing was learned is over in the end", ops: []Op{
			try("a", "x", 1, 0, 1), unknown(wait("b", "x", 0, 2, 3)), look("x", inLine, 4, 5), release("a", "x", 1, 6, 7), try("c", "x", 10, 2+claim, 9+claim)}},
		{name: "a hand-off to a wait of which nothing was learned proves it", bad: true, ops: []Op{
			try("a", "x", 1, 0, 1), unknown(wait("b", "x", 0, 2, 3)), handOff("a", 1, "", "b", 4, 2, 6, 7), try("c", "x", 5, 8, 9)}},
		{name: "another holder than the one", bad: true, ops: []Op{
			try("a", "x", 1, 0, 1), seeing(refused("b", "x", 2, 3), "ghost", 7)}},
		{name: "a holder who never asked", bad: true, ops: []Op{
			seeing(refused("b", "x", 2, 3), "ghost", 1)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			wrong := wrongOf(Check(numbered(tc.ops, tc.ends), enough))
			if tc.bad != (wrong != nil) {
				t.Errorf("judged %v", wrong)
			}
		})
	}
}

// inLine shows a holding x and b waiting for it.
var inLine = Seen{Name: "x", Holders: []Holder{{Session: "a", Token: 1}}, Queue: []Waiting{{Session: "b", Ticket: 9}}}

// Histories that cannot be decided in time are not taken for right: here any of twenty outcomes may be, and none explains the end.
func TestCheck_UndecidedIsNoSuccess(t *testing.T) {
	t.Parallel()
	var ops []Op
	for i := range 20 {
		ops = append(ops, unknown(try(string(rune('a'+i)), "x", 0, int64(i), 0)), unknown(wait(string(rune('a'+i)), "x", 0, int64(i), 0)))
	}
	if wrong := wrongOf(Check(numbered(append(ops, try("z", "x", 2, 30, 31), refused("z", "y", 32, 33), try("y", "x", 1, 34, 35)), nil), time.Millisecond)); !errors.Is(wrong, errUndecided) {
		t.Errorf("judged %v", wrong)
	}
}

// The times of these histories are in unit, which is coarser than the grain of deadlines.
const (
	unit     = int64(2 * time.Millisecond)
	patience = 50 // of waits
	claim    = 80 // of grants to waits
)

func numbered(ops []Op, ends map[string]int64) History {
	scaled := map[string]int64{}
	for session, at := range ends {
		scaled[session] = at * unit
	}
	for i := range ops {
		o := &ops[i]
		o.ID, o.Call = i+1, o.Call*unit
		if o.Return != Never {
			o.Return *= unit
		}
	}
	return History{Ops: ops, EarliestEnd: scaled}
}

func wrongOf(verdicts []Verdict) error {
	for _, v := range verdicts {
		if v.Wrong != nil {
			return v.Wrong
		}
	}
	return nil
}

func ask(session string, token uint64, call, ret int64, wants ...Want) Op {
	o := Op{Kind: Acquire, Session: session, Wants: wants, Outcome: Granted, Call: call, Return: ret}
	for i, w := range wants {
		o.Got = append(o.Got, Grant{Name: w.Name, Token: token + uint64(i)})
	}
	return o
}

func try(session, name string, token uint64, call, ret int64) Op {
	return ask(session, token, call, ret, Want{Name: name})
}

func shared(session, name string, token uint64, call, ret int64) Op {
	return ask(session, token, call, ret, Want{Name: name, Mode: Shared})
}

func permits(session, name string, n int, token uint64, call, ret int64) Op {
	return ask(session, token, call, ret, Want{Name: name, Mode: Permits, Permits: n, Limit: 3})
}

func both(session string, x, y uint64, call, ret int64) Op {
	o := ask(session, x, call, ret, Want{Name: "x"}, Want{Name: "y"})
	o.Got[1].Token = y
	return o
}

func again(session, owner string, token uint64, count int, call, ret int64) Op {
	o := try(session, "x", token, call, ret)
	o.Owner, o.Counts, o.Got[0].Count = owner, true, count
	return o
}

func refused(session, name string, call, ret int64) Op {
	return with(try(session, name, 0, call, ret), Held)
}

func queued(o Op, ticket uint64) Op {
	o.Wait, o.Claim = time.Duration(patience*unit), time.Duration(claim*unit)
	o = with(o, Queued)
	o.Told = ticket
	return o
}

func wait(session, name string, ticket uint64, call, ret int64) Op {
	return queued(try(session, name, 0, call, ret), ticket)
}

func waitShared(session, name string, ticket uint64, call, ret int64) Op {
	return queued(shared(session, name, 0, call, ret), ticket)
}

func waitBoth(session string, ticket uint64, call, ret int64) Op {
	return queued(both(session, 0, 0, call, ret), ticket)
}

func stands(ticket uint64, as Outcome, call, ret int64) Op {
	return Op{Kind: Attach, Ticket: ticket, Outcome: as, Call: call, Return: ret}
}

func attach(ticket uint64, call, ret int64, name string, token uint64) Op {
	return told(stands(ticket, Granted, call, ret), Grant{Name: name, Token: token})
}

func cancel(ticket uint64, as Outcome, call, ret int64) Op {
	return Op{Kind: Cancel, Ticket: ticket, Outcome: as, Call: call, Return: ret}
}

func holding(kind Kind, session string, call, ret int64, grants ...Grant) Op {
	return Op{Kind: kind, Session: session, Grants: grants, Outcome: Done, Call: call, Return: ret}
}

func release(session, name string, token uint64, call, ret int64) Op {
	return holding(Release, session, call, ret, Grant{Name: name, Token: token})
}

func releaseBoth(session string, x, y uint64, call, ret int64) Op {
	return holding(Release, session, call, ret, Grant{Name: "x", Token: x}, Grant{Name: "y", Token: y})
}

func downgrade(session, name string, token uint64, call, ret int64) Op {
	return holding(Downgrade, session, call, ret, Grant{Name: name, Token: token})
}

func handOff(session string, token uint64, to, heir string, heirs, ticket uint64, call, ret int64) Op {
	o := holding(HandOff, session, call, ret, Grant{Name: "x", Token: token})
	o.To, o.Heir, o.Told = to, Holder{Session: heir, Token: heirs}, ticket
	return o
}

func validate(name string, token uint64, valid bool, call, ret int64) Op {
	o := holding(Validate, "", call, ret, Grant{Name: name, Token: token})
	o.Valid = valid
	return o
}

func look(name string, seen Seen, call, ret int64) Op {
	o := holding(Look, "", call, ret, Grant{Name: name})
	o.Sight = []Seen{seen}
	return o
}

func finish(session string, call, ret int64) Op {
	return Op{Kind: Finish, Session: session, Outcome: Done, Call: call, Return: ret}
}

func with(o Op, as Outcome) Op {
	o.Outcome, o.Got = as, nil
	return o
}

func told(o Op, got ...Grant) Op {
	o.Got = got
	return o
}

func unknown(o Op) Op {
	o = with(o, Unknown)
	o.Return = Never
	return o
}

func seeing(o Op, session string, token uint64) Op {
	o.Heir = Holder{Session: session, Token: token}
	return o
}
