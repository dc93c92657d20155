package fence

import (
	"errors"
	"fmt"
)

var (
	// ErrFenced says that the resource has seen a higher token: the lock was lost. *FencedError holds both.
	ErrFenced = errors.New("a later holder of the lock was here")
	// ErrToken says that a number is no token: 0, as from a lock that was never granted, or above TokenMax.
	ErrToken = errors.New("no valid token")
	// ErrNoRow says that there is no row to store the token in.
	ErrNoRow = errors.New("no such row")
	// ErrManyRows says that the key columns do not identify one row.
	ErrManyRows = errors.New("the key matches several rows")
	// ErrKey says that a row's key or a name cannot be used.
	ErrKey = errors.New("invalid key")
	// ErrIdentifier says that the name of a schema, table or column cannot be used.
	ErrIdentifier = errors.New("invalid identifier")
	// ErrStatement says that Update was given nothing to set.
	ErrStatement = errors.New("nothing to set")
	// ErrCommitUnknown says that the server did not confirm a commit: all of the transaction was applied, or nothing.
	ErrCommitUnknown = errors.New("the commit was not confirmed")
)

// TokenMax bounds tokens: JSON and Lua know numbers as doubles, which are exact up to here.
const TokenMax = 1<<53 - 1

// CheckToken is ErrToken for what cannot be a token.
func CheckToken(token uint64) error {
	if token == 0 || token > TokenMax {
		return fmt.Errorf("%w: %d", ErrToken, token)
	}
	return nil
}

// FencedError is an ErrFenced with what is known of it.
type FencedError struct {
	Token uint64 // ours
	Seen  uint64 // of a later holder
}

func (e *FencedError) Error() string {
	return fmt.Sprintf("%v: token %d was seen, ours is %d", ErrFenced, e.Seen, e.Token)
}

// Is makes errors.Is(err, ErrFenced) hold.
func (e *FencedError) Is(target error) bool { return target == ErrFenced }
