package replica

import (
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// raft can keep answering "transfer in progress" for ever; only a restart clears it.
func TestPropose_TransferThatNeverEndsEndsTheNode(t *testing.T) {
	t.Parallel()
	var fault error
	r := &Replica{cfg: Config{ElectionTimeout: 100 * time.Millisecond, OnFatal: func(err error) { fault = err }}}
	at := func(since time.Duration, err error) {
		r.started = time.Now().Add(-since)
		r.noteTransfer(err)
	}
	at(time.Second, raft.ErrLeadershipTransferInProgress)
	at(1900*time.Millisecond, raft.ErrLeadershipTransferInProgress)
	at(2*time.Second, nil) // it ended after all
	at(3*time.Second, raft.ErrLeadershipTransferInProgress)
	at(3900*time.Millisecond, raft.ErrLeadershipTransferInProgress)
	if fault != nil {
		t.Fatalf("ended by a transfer within its time: %v", fault)
	}
	at(4200*time.Millisecond, raft.ErrLeadershipTransferInProgress)
	if !errors.Is(fault, ErrTransferStuck) {
		t.Fatalf("a transfer that never ends: %v", fault)
	}
}
