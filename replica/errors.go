package replica

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// Outcomes of Propose that are not results. Everything that does not wrap ErrNotApplied is unknown.
var (
	// ErrNotApplied: no log holds the command and none will. Safe to send again.
	ErrNotApplied = errors.New("not applied")
	// ErrNotLeader: another node leads, see Leader. Wraps ErrNotApplied.
	ErrNotLeader = fmt.Errorf("%w: this node does not lead", ErrNotApplied)
	// ErrNoLeader: nobody is known to lead. Wraps ErrNotApplied.
	ErrNoLeader = fmt.Errorf("%w: no leader", ErrNotApplied)
	// ErrBusy: as many commands wait as may. Wraps ErrNotApplied.
	ErrBusy = fmt.Errorf("%w: too many commands are waiting", ErrNotApplied)
	// ErrOutcomeUnknown: the command may have been applied, or may yet be.
	ErrOutcomeUnknown = errors.New("outcome unknown")
)

// Faults that end the process.
var (
	// ErrInstallLoop: raft installed the same snapshot three times and will not stop (its log contradicts it).
	ErrInstallLoop = errors.New("the same snapshot is installed again and again")
	// ErrBadEntry: an entry of the log cannot be applied by this version, or is damaged.
	ErrBadEntry = errors.New("log entry cannot be applied")
	// ErrTransferStuck: raft refuses every command because a leadership transfer never ends.
	ErrTransferStuck = errors.New("leadership transfer never ends")
	// ErrRestoreUnfinished: this node has the state of a backup that the others may never have.
	ErrRestoreUnfinished = errors.New("the restore of a backup did not reach the other nodes")
)

// RefusedError is a refused change of the membership: Code for machines, Detail with the next safe step for people.
type RefusedError struct {
	Code   string
	Detail string
}

func (e *RefusedError) Error() string { return e.Code + ": " + e.Detail }

// outcome translates what raft says of an entry.
func outcome(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader):
		return ErrNotLeader
	case errors.Is(err, raft.ErrEnqueueTimeout), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return fmt.Errorf("%w: %v", ErrNotApplied, err)
	default:
		// Also ErrRaftShutdown: raft answers it for entries that are already committed.
		return fmt.Errorf("%w: %v", ErrOutcomeUnknown, err)
	}
}

func canceled(ctx context.Context) error {
	return fmt.Errorf("%w: %v", ErrOutcomeUnknown, context.Cause(ctx))
}
