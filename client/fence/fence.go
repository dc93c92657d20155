package fence

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
)

const resourceBytesMax = 300

// Fence is the place of one resource's token.
type Fence struct {
	place    *place
	key      []any
	resource string // for errors
	wrong    error  // of the key, told by whoever is asked first
}

// Do begins a transaction, advances the fence, lets work read and write, and commits. A nil work only advances the fence: from then on no
// holder with a lower token can write. Any error but ErrCommitUnknown means that nothing was changed.
func (f Fence) Do(ctx context.Context, db *sql.DB, token uint64, work func(*sql.Tx) error) error {
	if err := f.check(token); err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("fence %s: begin: %w", f.resource, err)
	}
	defer func() { _ = tx.Rollback() }() // does nothing after the commit, and what fails to roll back ends with its connection
	if err := f.Advance(ctx, tx, token); err != nil {
		return err
	}
	if work != nil {
		if err := work(tx); err != nil {
			return err
		}
	}
	if err := tx.Commit(); err != nil {
		if errors.Is(err, sql.ErrTxDone) && ctx.Err() != nil {
			err = context.Cause(ctx) // its end was quicker, and has ended the transaction
		}
		return fmt.Errorf("fence %s: %w: %w", f.resource, ErrCommitUnknown, err)
	}
	return nil
}

// Advance shows a token to the resource, inside the caller's transaction and as its first statement. Without an error, nobody with another
// token can write before the transaction ends, nor anybody with a lower one after its commit. After an error, roll back.
//
// It takes a transaction and not a connection, because the check is worth nothing once the lock on its row is gone.
func (f Fence) Advance(ctx context.Context, tx *sql.Tx, token uint64) error {
	if err := f.check(token); err != nil {
		return err
	}
	if err := f.advance(ctx, tx, token); err != nil {
		return fmt.Errorf("fence %s: %w", f.resource, err)
	}
	return nil
}

func (f Fence) check(token uint64) error {
	err := f.wrong
	if err == nil {
		err = CheckToken(token)
	}
	if err != nil {
		return fmt.Errorf("fence %s: %w", f.resource, err)
	}
	return nil
}

// advance raises first and looks when there was nothing to raise. Only a strictly lower token is raised, so that the count of a row that
// was changed and that of a row that was matched are the same number.
func (f Fence) advance(ctx context.Context, tx *sql.Tx, token uint64) error {
	if f.place.insert != "" {
		if _, err := tx.ExecContext(ctx, f.place.insert, f.arguments(nil, token, token)...); err != nil {
			return err
		}
	} else if raised, err := f.raise(ctx, tx, token); raised || err != nil {
		return err
	}
	seen, err := f.look(ctx, tx)
	switch {
	case err != nil:
		return err
	case seen > token:
		return &FencedError{Token: token, Seen: seen}
	case seen == token:
		return nil
	}
	// The row came to be between the two statements. It is locked now.
	raised, err := f.raise(ctx, tx, token)
	if err == nil && !raised {
		err = ErrNoRow
	}
	return err
}

// raise tells whether it raised one row's token. If it raised several, look will say so.
func (f Fence) raise(ctx context.Context, on Conn, token uint64) (bool, error) {
	result, err := on.ExecContext(ctx, f.place.raise, f.arguments([]any{token}, token)...)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n == 1, err
}

// look reads the stored token and locks its row. A locking read sees the last commit, whatever the transaction has seen before.
func (f Fence) look(ctx context.Context, on Conn) (seen uint64, err error) {
	rows, err := on.QueryContext(ctx, f.place.look, f.key...)
	if err != nil {
		return 0, err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	found := 0
	for ; rows.Next(); found++ {
		if err := rows.Scan(&seen); err != nil {
			return 0, err
		}
	}
	switch err := rows.Err(); {
	case err != nil:
		return 0, err
	case found == 0:
		return 0, ErrNoRow
	case found > 1:
		return 0, ErrManyRows
	}
	return seen, nil
}

// arguments puts the key between what comes before and after it.
func (f Fence) arguments(before []any, after ...any) []any {
	return slices.Concat(before, f.key, after)
}
