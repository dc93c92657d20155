package fence

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
)

// Conn is what runs a statement: *sql.DB, *sql.Conn or *sql.Tx.
type Conn interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// Row is the fence of a row that holds its own token.
type Row struct {
	Fence
	update update
}

// update is a statement with a gap for what is to be set.
type update struct{ before, after string }

// Update changes the row in one statement, if no higher token was seen: set is what stands between SET and WHERE, with a ? for each of
// args, and must not name the token's column. It needs no transaction, and takes part in the caller's where there is one.
//
//	err := orders.Row(42).Update(ctx, db, lock.Token(), "status = ?, paid_at = NOW(6)", "paid")
//
// ErrFenced and ErrNoRow mean that nothing was changed. After an error of the driver on *sql.DB the outcome is unknown, as with any
// statement; sent again under the same token, it is not refused for having been applied.
func (r Row) Update(ctx context.Context, on Conn, token uint64, set string, args ...any) error {
	if err := r.check(token); err != nil {
		return err
	}
	if strings.TrimSpace(set) == "" {
		return fmt.Errorf("fence %s: %w", r.resource, ErrStatement)
	}
	if err := r.set(ctx, on, token, set, args); err != nil {
		return fmt.Errorf("fence %s: %w", r.resource, err)
	}
	return nil
}

func (r Row) set(ctx context.Context, on Conn, token uint64, set string, args []any) error {
	result, err := on.ExecContext(ctx, r.update.before+set+r.update.after, r.arguments(append(args[:len(args):len(args)], token), token)...)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); n == 1 || err != nil {
		return err
	}
	return r.explain(ctx, on, token)
}

// explain finds out why the rows that were changed are not one: it had this token and these values already, or it was not to be changed, or
// the key is one of several.
func (r Row) explain(ctx context.Context, on Conn, token uint64) error {
	seen, err := r.look(ctx, on)
	switch {
	case err != nil:
		return err
	case seen > token:
		return &FencedError{Token: token, Seen: seen}
	case seen < token:
		return ErrNoRow // it would have been changed, so it has come since
	}
	return nil
}
