package reconcile

import (
	"errors"

	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/mysql"
	"github.com/quiescehq/quiesce/rediscache"
)

// What ends a pass, or makes it wait, from inside.
var (
	errEnded         = errors.New("the pass is no longer running")
	errMoved         = errors.New("the pass is logged at another row than this task believed")
	errHeld          = errors.New("the pass waits for an approval")
	errOutboxFull    = errors.New("the outbox is full")
	errLog           = errors.New("the log did not take the command")
	errSourceMissing = errors.New("this node has no such source")
	errTargetMissing = errors.New("this node has no such target")
	errNoMemory      = errors.New("the outbox does not tell what it delivered lately")
)

// failure ends a pass. Its text becomes the pass's reason: a code and a sentence, for an operator.
type failure struct{ reason string }

func (f *failure) Error() string { return f.reason }

// waits gives each error that passes by itself, or by an operator's hand, the code under which Progress shows it.
var waits = []struct {
	err  error
	code string
}{
	{errLog, "not_applied"},
	{errMoved, "not_applied"},
	{errOutboxFull, "outbox_full"},
	{errSourceMissing, "source_missing"},
	{errTargetMissing, "target_missing"},
	{errNoMemory, "outbox_not_running"},
	{mysql.ErrUnreachable, "source_unreachable"},
	{mysql.ErrNotPrimary, "source_not_primary"},
	{mysql.ErrDenied, "source_denied"},
	{rediscache.ErrUnreachable, "target_unreachable"},
	{rediscache.ErrNotPrimary, "target_not_primary"},
	{rediscache.ErrSnooze, "target_busy"},
	{rediscache.ErrDenied, "target_denied"},
}

func waitCode(err error) string {
	for _, w := range waits {
		if errors.Is(err, w.err) {
			return w.code
		}
	}
	return "unexpected_error"
}

// fatal turns an error that no waiting cures into the end of the pass, and leaves the others as they are.
func fatal(err error) error {
	if errors.Is(err, mysql.ErrTableChanged) {
		return &failure{"table_changed: the table is not, or no longer, what the mapping was accepted with; put the mapping again"}
	}
	_, badKey := errors.AsType[*mapping.KeyError](err)
	if badKey || errors.Is(err, rediscache.ErrInvalid) {
		return &failure{"internal: " + err.Error()}
	}
	return err
}

func isFinal(err error) bool {
	_, failed := errors.AsType[*failure](err)
	return failed || errors.Is(err, errEnded)
}
