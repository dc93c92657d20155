package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quiescehq/quiesce/fsm"
)

// proposal is what one caller wants in one entry.
type proposal struct {
	ops  []fsm.EncodedOp
	size int
	term uint64 // the leadership under which it was made
	done chan proposed
}

type proposed struct {
	results []fsm.Result
	err     error
}

// Propose puts the ops into one log entry, which they may share with those of other callers, and answers their results in order. A
// refusal is a result. Errors wrap ErrNotApplied; all others mean that the outcome is unknown, also when ctx ends.
func (r *Replica) Propose(ctx context.Context, ops ...fsm.Op) ([]fsm.Result, error) {
	lead := r.leading.Load()
	if lead == nil || !lead.open.Load() {
		return nil, r.notLeading()
	}
	return r.propose(ctx, lead, ops)
}

func (r *Replica) notLeading() error {
	if r.Leader().ID == "" {
		return ErrNoLeader
	}
	return ErrNotLeader
}

func (r *Replica) propose(ctx context.Context, lead *leadership, ops []fsm.Op) ([]fsm.Result, error) {
	if len(ops) == 0 || len(ops) > ProposeOpsMax {
		return nil, fmt.Errorf("%w: between 1 and %d commands at a time", ErrNotApplied, ProposeOpsMax)
	}
	p := &proposal{ops: make([]fsm.EncodedOp, len(ops)), term: lead.term, done: make(chan proposed, 1)}
	for i, op := range ops {
		p.ops[i] = op.Encode()
		p.size += len(p.ops[i])
	}
	select {
	case r.queue <- p:
	default:
		return nil, ErrBusy
	}
	deadline := time.NewTimer(applyTimeout)
	defer deadline.Stop()
	select {
	case out := <-p.done:
		return out.results, out.err
	case <-deadline.C:
		return nil, fmt.Errorf("%w: no answer within %s", ErrOutcomeUnknown, applyTimeout)
	case <-ctx.Done():
		return nil, canceled(ctx)
	case <-r.stopped:
		return nil, fmt.Errorf("%w: the node is stopping", ErrOutcomeUnknown)
	}
}

// proposer is the one goroutine that builds entries: while Config.InFlight entries are on their way the next one collects, without any
// added delay.
func (r *Replica) proposer(ctx context.Context) error {
	slots := make(chan struct{}, r.cfg.InFlight)
	var held *proposal // did not fit into the last entry
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		first := held
		if first == nil {
			select {
			case first = <-r.queue:
			case <-ctx.Done():
				return nil
			}
		}
		var batch []*proposal
		batch, held = r.collect(first)
		r.send(batch, func() { <-slots })
	}
}

// collect takes what is waiting, up to the limits of one entry.
func (r *Replica) collect(first *proposal) (batch []*proposal, held *proposal) {
	batch = []*proposal{first}
	ops, size := len(first.ops), first.size
	for {
		select {
		case p := <-r.queue:
			if ops+len(p.ops) > entryOpsMax || size+p.size > entryBytesMax || p.term != first.term {
				return batch, p
			}
			batch = append(batch, p)
			ops, size = ops+len(p.ops), size+p.size
		default:
			return batch, nil
		}
	}
}

// send hands one entry to raft and answers its proposals when raft does. release is called then.
func (r *Replica) send(batch []*proposal, release func()) {
	r.sending.Lock()
	defer r.sending.Unlock()
	lead := r.leading.Load()
	if lead == nil || lead.term != batch[0].term {
		answer(batch, nil, ErrNotLeader)
		release()
		return
	}
	var ops []fsm.EncodedOp
	for _, p := range batch {
		ops = append(ops, p.ops...)
	}
	data := fsm.JoinEntry(lead.now(), ops)
	entry, err := fsm.DecodeEntry(data)
	if err != nil {
		// What this node cannot read back must not reach a log that all must read.
		answer(batch, nil, fmt.Errorf("%w: %v", ErrNotApplied, err))
		release()
		return
	}
	r.machine.decoded.put(data, entry)
	future := r.raft.ApplyLog(raft.Log{Data: data}, enqueueTimeout)
	go func() { // waits for raft, which gives no way to abandon a future; bounded by the slots
		err := future.Error()
		r.machine.decoded.drop(data)
		r.noteTransfer(err)
		if err != nil {
			answer(batch, nil, outcome(err))
		} else {
			answer(batch, future.Response().([]fsm.Result), nil)
		}
		release()
	}()
}

func answer(batch []*proposal, results []fsm.Result, err error) {
	for _, p := range batch {
		out := proposed{err: err}
		if err == nil {
			out.results, results = results[:len(p.ops):len(p.ops)], results[len(p.ops):]
		}
		p.done <- out
	}
}

// noteTransfer ends the process when raft has been refusing commands because of a leadership transfer for longer than one can last: its
// flag is known to stay set for ever after a step-down at the wrong moment, and only a restart clears it.
func (r *Replica) noteTransfer(err error) {
	if !errors.Is(err, raft.ErrLeadershipTransferInProgress) {
		r.transferSince.Store(0)
		return
	}
	now := time.Since(r.started)
	if !r.transferSince.CompareAndSwap(0, int64(now)) && now-time.Duration(r.transferSince.Load()) > 10*r.cfg.ElectionTimeout {
		r.fatal(ErrTransferStuck)
	}
}
