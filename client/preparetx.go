package client

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// Beginner begins transactions: a sql.DB, a DB of this package, or a sql.Conn.
type Beginner interface {
	BeginTx(ctx context.Context, opts *sql.TxOptions) (*sql.Tx, error)
}

// InTx announces events, lets work change their rows in a transaction, commits, and submits them. An error or a panic of work, and the end of ctx,
// roll back and cancel. If the process dies on any line of it, the coordinator finds out from the fence what became of the transaction.
//
// A nil error says that the transaction was committed. No tokens then say that the coordinator could not be told: it delivers the events when the
// prepare's time has passed. Of an error, ErrCommitUnknown alone leaves open whether the transaction was applied: then nothing is said to the
// coordinator, which looks. Work must not commit by itself. Deadlocks are for the caller: RetryOnce does the whole of it again.
func (a *App) InTx(ctx context.Context, db Beginner, changes []Change, work func(tx *sql.Tx) error, opts ...TxOption) ([]EventToken, error) {
	return a.client.inTx(ctx, a.member.registered(), db, changes, work, opts)
}

// InTx announces events, changes their rows in a transaction, and submits them. See [App.InTx].
func (c *Client) InTx(ctx context.Context, db Beginner, changes []Change, work func(tx *sql.Tx) error, opts ...TxOption) ([]EventToken, error) {
	return c.inTx(ctx, "", db, changes, work, opts)
}

func (c *Client) inTx(ctx context.Context, instance string, db Beginner, changes []Change, work func(*sql.Tx) error, opts []TxOption) ([]EventToken, error) {
	var o txOptions
	for _, opt := range opts {
		opt(&o)
	}
	tokens, err := c.inTxOnce(ctx, instance, db, changes, work, opts)
	if err != nil && !errors.Is(err, ErrCommitUnknown) && o.again != nil && o.again(err) && ctx.Err() == nil {
		tokens, err = c.inTxOnce(ctx, instance, db, changes, work, opts)
	}
	return tokens, err
}

func (c *Client) inTxOnce(ctx context.Context, instance string, db Beginner, changes []Change, work func(*sql.Tx) error, opts []TxOption) ([]EventToken, error) {
	p, err := c.prepare(ctx, instance, changes, opts)
	if notThere(err) && instance != "" {
		p, err = c.prepare(ctx, "", changes, opts)
	}
	if err != nil {
		return nil, err
	}
	var o txOptions
	for _, opt := range opts {
		opt(&o)
	}
	if err := p.transact(ctx, db, &o.sql, work); err != nil {
		return nil, err
	}
	telling, cancel := context.WithTimeout(context.WithoutCancel(ctx), endFor)
	defer cancel()
	tokens, err := p.Submit(telling)
	if err != nil {
		c.log.Warn("a commit could not be told; the coordinator will find it", "prepared", p.id, "error", err)
	}
	return tokens, nil
}

// transact answers nil if the transaction has committed. It cancels the events if it surely has not and cannot.
func (p *Prepared) transact(ctx context.Context, db Beginner, opts *sql.TxOptions, work func(*sql.Tx) error) (err error) {
	undone := true // whatever leaves this function before the commit is sent, a panic and a Goexit too
	var tx *sql.Tx
	defer func() {
		if tx != nil {
			_ = tx.Rollback() // does nothing after the commit, and what fails to roll back ends with its connection
		}
		if undone {
			p.canceled(ctx)
		}
	}()
	if tx, err = db.BeginTx(ctx, opts); err != nil {
		return err
	}
	if err := p.Fence(ctx, tx); err != nil {
		return err
	}
	if err := work(tx); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	undone = false
	switch err := tx.Commit(); {
	case err == nil:
		return nil
	case errors.Is(err, ErrCutOff): // it was not sent
		undone = true
		return err
	default:
		return fmt.Errorf("%w: prepared %s: %w", ErrCommitUnknown, p.id, err)
	}
}

// canceled tells that nothing will be committed. It is best effort.
func (p *Prepared) canceled(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endFor)
	defer cancel()
	if err := p.Cancel(ctx); err != nil {
		p.client.log.Warn("a rollback could not be told; the coordinator will find it", "prepared", p.id, "error", err)
	}
}
