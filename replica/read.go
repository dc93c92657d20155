package replica

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/quiescehq/quiesce/fsm"
)

// Read returns when View shows every command that was acknowledged, by any node, before the call. It fails with ErrNotApplied (nothing
// was asked to change) when this node does not lead or cannot prove that it still does.
//
// The state of a leader whose TermStart is applied holds every acknowledged command: those of earlier terms stand before TermStart in the
// log, and its own are answered after they were applied here. So all that must be shown is that nobody else leads, by a round that begins
// after the call. raft's VerifyLeader does not show it: it counts answers to heartbeats that were sent before the call.
func (r *Replica) Read(ctx context.Context) error {
	lead := r.leading.Load()
	if lead == nil || !lead.ready.Load() {
		return r.notLeading()
	}
	return lead.round(ctx)
}

// View runs f over the state as this node has it. f must be short, must not block and may keep values only.
func (r *Replica) View(f func(s *fsm.State)) {
	r.machine.view(func(s *fsm.State, _ uint64) { f(s) })
}

// Watch wakes after an entry changed a row of the table; with a key, only that row. Close it.
func (r *Replica) Watch(table, key string) *Watch { return r.machine.watches.add(table, key) }

// round joins the next leadership round.
func (l *leadership) round(ctx context.Context) error {
	done := make(chan error, 1)
	select {
	case l.rounds <- done:
	case <-ctx.Done():
		return fmt.Errorf("%w: %v", ErrNotApplied, context.Cause(ctx))
	case <-l.ended:
		return ErrNotLeader
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %v", ErrNotApplied, context.Cause(ctx))
	case <-l.ended:
		return ErrNotLeader
	}
}

// runRounds serves rounds one after another; all callers that came while one was running share the next.
func (r *Replica) runRounds(ctx context.Context, l *leadership) error {
	var calls sync.WaitGroup
	defer calls.Wait()
	for {
		var waiting []chan error
		select {
		case done := <-l.rounds:
			waiting = append(waiting, done)
		case <-ctx.Done():
			return nil
		}
		for more := true; more; {
			select {
			case done := <-l.rounds:
				waiting = append(waiting, done)
			default:
				more = false
			}
		}
		err := r.askVoters(ctx, &calls, l)
		for _, done := range waiting {
			done <- err
		}
	}
}

// askVoters asks every voter for its term. A majority, this node included, must answer the leader's: then no other leader was elected
// before the question, since one needs the votes of a majority, and a vote raises the voter's term.
func (r *Replica) askVoters(ctx context.Context, calls *sync.WaitGroup, l *leadership) error {
	if r.raft.CurrentTerm() != l.term {
		return ErrNotLeader
	}
	voters := r.voters()
	agree, needed := 0, len(voters)/2+1
	answers := make(chan bool, len(voters))
	asked := 0
	for _, v := range voters {
		if v.ID == raft.ServerID(r.cfg.NodeID) {
			agree++
			continue
		}
		if !l.mayAsk(v.ID) {
			continue // it owes several answers: a stopped node must not collect calls
		}
		asked++
		calls.Go(func() {
			defer l.asked(v.ID)
			answers <- r.askTerm(ctx, v, l.term)
		})
	}
	for ; asked > 0 && agree < needed; asked-- {
		if <-answers {
			agree++
		}
	}
	if agree < needed || r.raft.CurrentTerm() != l.term {
		return fmt.Errorf("%w: %d of %d voters stand behind this leader", ErrNoLeader, agree, len(voters))
	}
	return nil
}

func (r *Replica) askTerm(ctx context.Context, v raft.Server, term uint64) bool {
	ctx, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
	b, err := r.transport.Call(ctx, string(v.Address), string(v.ID), callTerm, nil)
	if err != nil {
		return false
	}
	var theirs termAnswer
	return json.Unmarshal(b, &theirs) == nil && theirs.Term == term
}

// voters are those of the latest configuration that this node knows.
func (r *Replica) voters() []raft.Server {
	var out []raft.Server
	for _, s := range r.configuration().Servers {
		if s.Suffrage == raft.Voter {
			out = append(out, s)
		}
	}
	return out
}

func (r *Replica) configuration() raft.Configuration {
	return r.raft.GetConfiguration().Configuration()
}
