package client

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync/atomic"
)

// dbConnector opens the connections of a pool, each with a watch over it. Everything else is the driver's.
type dbConnector struct {
	inner driver.Connector
	watch *dbWatch
}

func (k *dbConnector) Driver() driver.Driver { return k.inner.Driver() }

// Close is what sql.DB.Close calls.
func (k *dbConnector) Close() error {
	if c, ok := k.inner.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// Connect asks each connection once for its id, so that no statement has to.
func (k *dbConnector) Connect(ctx context.Context) (driver.Conn, error) {
	inner, err := k.inner.Connect(ctx)
	if err != nil {
		return nil, err
	}
	c := &dbConn{inner: inner, watch: k.watch, turn: make(chan struct{}, 1), cut: newEnding()}
	if k.watch.source != "" {
		if c.id, err = connectionID(ctx, inner); ctx.Err() != nil {
			return nil, errors.Join(context.Cause(ctx), inner.Close())
		}
		if err != nil && k.watch.nameless.next(overdueEvery) > 0 {
			k.watch.log.Warn("a connection has no id: what it leaves behind cannot be ended for this instance", "source", k.watch.source, "error", err)
		}
	}
	k.watch.add(c)
	return c, nil
}

var errNoID = errors.New("client: no CONNECTION_ID()")

func connectionID(ctx context.Context, c driver.Conn) (uint64, error) {
	q, ok := c.(driver.QueryerContext)
	if !ok {
		return 0, errNoID
	}
	rows, err := q.QueryContext(ctx, "SELECT CONNECTION_ID()", nil)
	if err != nil {
		return 0, err
	}
	defer rows.Close() //nolint:errcheck // one row was wanted
	row := make([]driver.Value, len(rows.Columns()))
	if err := rows.Next(row); err != nil || len(row) != 1 {
		return 0, errors.Join(errNoID, err)
	}
	switch v := row[0].(type) {
	case int64:
		return uint64(v), nil
	case uint64:
		return v, nil
	case []byte:
		return strconv.ParseUint(string(v), 10, 64)
	case string:
		return strconv.ParseUint(v, 10, 64)
	}
	return 0, fmt.Errorf("%w: a %T", errNoID, row[0])
}

// dbConn is one connection. The pool uses it from one goroutine at a time; the drain is the only other one, and turn keeps the two apart:
// whoever has put something into it may speak to the driver.
type dbConn struct {
	inner driver.Conn
	watch *dbWatch
	id    uint64 // 0: not known
	turn  chan struct{}
	tx    *dbTx // open, or nil; belongs to turn

	busy atomic.Int32 // statements, rows and transactions under way
	gone atomic.Bool  // cut: nothing more is sent, in particular no commit
	cut  *ending      // ends the contexts of what is under way
	shut bool         // closed; belongs to turn
	lost bool         // something failed because of the cut; belongs to turn
}

func (c *dbConn) lock()   { c.turn <- struct{}{} }
func (c *dbConn) unlock() { <-c.turn }

// Unwrap gives the driver's own connection, for those who reach it by sql.Conn.Raw.
func (c *dbConn) Unwrap() driver.Conn { return c.inner }

// dbOp is something that a connection does, until its answer is read.
type dbOp struct {
	ctx   context.Context
	conn  *dbConn
	stop  func() bool
	end   context.CancelFunc
	count *atomic.Int64 // nil inside a transaction, which is counted itself
	over  atomic.Bool
}

// begin admits an operation, and leaves the turn to it. count is for work outside a transaction.
func (c *dbConn) begin(ctx context.Context, count *atomic.Int64) (*dbOp, error) {
	c.lock()
	if c.gone.Load() {
		c.unlock()
		return nil, c.watch.cutOff()
	}
	if c.tx != nil {
		count = nil
		if told, ok := ctx.Value(commitKey{}).(func(string)); ok {
			c.tx.told = told
		}
	} else if err := c.watch.enter(ctx, count); err != nil {
		c.unlock()
		return nil, err
	}
	c.busy.Add(1)
	o := &dbOp{conn: c, count: count}
	o.ctx, o.end = context.WithCancel(ctx)
	o.stop = context.AfterFunc(c.cut.ctx, o.end)
	return o, nil
}

// finish counts the operation out. It may be called twice.
func (o *dbOp) finish() {
	if o.over.Swap(true) {
		return
	}
	o.stop()
	o.end()
	o.conn.busy.Add(-1)
	if o.count != nil {
		o.count.Add(-1)
	}
}

// result gives an operation's error to the pool. What the drain has cut says so, instead of an ended context that is not the caller's or a
// bad connection that the pool would try again without.
func (o *dbOp) result(err error) error {
	if err != nil && o.conn.gone.Load() {
		o.conn.lost = true
		return o.conn.watch.cutOff()
	}
	return err
}

func (c *dbConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	inner, ok := c.inner.(driver.ExecerContext)
	if !ok {
		return nil, driver.ErrSkip
	}
	o, err := c.begin(ctx, &c.watch.statements)
	if err != nil {
		return nil, err
	}
	defer c.unlock()
	defer o.finish()
	result, err := inner.ExecContext(o.ctx, query, args)
	return result, o.result(err)
}

func (c *dbConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	inner, ok := c.inner.(driver.QueryerContext)
	if !ok {
		return nil, driver.ErrSkip
	}
	o, err := c.begin(ctx, &c.watch.statements)
	if err != nil {
		return nil, err
	}
	defer c.unlock()
	rows, err := inner.QueryContext(o.ctx, query, args)
	return o.rows(rows, err)
}

func (c *dbConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	c.lock()
	defer c.unlock()
	if c.gone.Load() {
		return nil, c.watch.cutOff()
	}
	stmt, err := prepare(ctx, c.inner, query)
	if err != nil {
		return nil, err
	}
	return &dbStmt{inner: stmt, conn: c}, nil
}

func prepare(ctx context.Context, c driver.Conn, query string) (driver.Stmt, error) {
	if p, ok := c.(driver.ConnPrepareContext); ok {
		return p.PrepareContext(ctx, query)
	}
	stmt, err := c.Prepare(query)
	if err == nil && ctx.Err() != nil {
		return nil, errors.Join(ctx.Err(), stmt.Close())
	}
	return stmt, err
}

func (c *dbConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	o, err := c.begin(ctx, &c.watch.transactions)
	if err != nil {
		return nil, err
	}
	defer c.unlock()
	tx, err := beginTx(o.ctx, c.inner, opts)
	if err != nil {
		o.finish()
		return nil, o.result(err)
	}
	c.tx = &dbTx{inner: tx, op: o} // the operation ends with it: there are drivers that roll back when its context does
	return c.tx, nil
}

var errTxOptions = errors.New("client: the driver knows no isolation levels and no read-only transactions")

func beginTx(ctx context.Context, c driver.Conn, opts driver.TxOptions) (driver.Tx, error) {
	if b, ok := c.(driver.ConnBeginTx); ok {
		return b.BeginTx(ctx, opts)
	}
	if opts.Isolation != 0 || opts.ReadOnly {
		return nil, errTxOptions
	}
	tx, err := c.Begin() //nolint:staticcheck // of a driver that has nothing newer
	if err == nil && ctx.Err() != nil {
		return nil, errors.Join(ctx.Err(), tx.Rollback())
	}
	return tx, err
}

// Prepare and Begin are there for the interface. The pool prefers those with a context.
func (c *dbConn) Prepare(query string) (driver.Stmt, error) {
	return c.PrepareContext(context.Background(), query)
}

// Begin starts a transaction.
func (c *dbConn) Begin() (driver.Tx, error) {
	return c.BeginTx(context.Background(), driver.TxOptions{})
}

func (c *dbConn) Ping(ctx context.Context) error {
	p, ok := c.inner.(driver.Pinger)
	if !ok {
		return nil
	}
	c.lock()
	defer c.unlock()
	return p.Ping(ctx)
}

func (c *dbConn) ResetSession(ctx context.Context) error {
	c.lock()
	defer c.unlock()
	if c.gone.Load() {
		return driver.ErrBadConn
	}
	if r, ok := c.inner.(driver.SessionResetter); ok {
		return r.ResetSession(ctx)
	}
	return nil
}

func (c *dbConn) IsValid() bool {
	c.lock()
	defer c.unlock()
	if c.gone.Load() {
		return false
	}
	v, ok := c.inner.(driver.Validator)
	return !ok || v.IsValid()
}

func (c *dbConn) CheckNamedValue(v *driver.NamedValue) error {
	if n, ok := c.inner.(driver.NamedValueChecker); ok {
		return n.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

// Close is what the pool calls when it is done with the connection.
func (c *dbConn) Close() error {
	c.lock()
	defer c.unlock()
	c.watch.remove(c)
	return c.closeLocked()
}

func (c *dbConn) closeLocked() error {
	if c.tx != nil {
		c.tx.op.finish()
		c.tx = nil
	}
	if c.shut {
		return nil
	}
	c.shut = true
	return c.inner.Close()
}

// breakOff ends what the connection does: the statement by its context, the transaction by a rollback that has happened when it returns,
// and then the connection, so that nothing can be committed on it ever again. A commit that is under way is let through. It answers what
// it has ended.
func (c *dbConn) breakOff(ctx context.Context) (transaction, statement bool) {
	c.gone.Store(true)
	c.cut.end(c.watch.cutOff())
	select {
	case c.turn <- struct{}{}:
		defer c.unlock()
	case <-ctx.Done(): // a driver that does not heed its context; a commit that comes after is refused all the same
		return false, true
	}
	transaction, statement = c.tx != nil, c.lost || c.busy.Load() > 0
	if transaction {
		c.rollback(ctx)
	}
	_ = c.closeLocked() // nobody is left who could do anything about it
	return transaction, statement && !transaction
}

// rollback goes by a statement where that can be bounded by a context. If it fails, the end of the connection does the same, a little later.
func (c *dbConn) rollback(ctx context.Context) {
	if e, ok := c.inner.(driver.ExecerContext); ok {
		_, _ = e.ExecContext(ctx, "ROLLBACK", nil)
		return
	}
	_ = c.tx.inner.Rollback()
}
