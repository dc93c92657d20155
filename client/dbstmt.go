package client

import (
	"context"
	"database/sql/driver"
	"io"
	"reflect"
)

// dbTx is an open transaction.
type dbTx struct {
	inner driver.Tx
	op    *dbOp
	told  func(source string) // when it has committed; nil if nobody wants to know. It does not block
}

// Commit and the drain's cut take turns: either the commit was sent before, and its answer is the truth, or it is not sent at all.
func (t *dbTx) Commit() error {
	c := t.op.conn
	c.lock()
	defer c.unlock()
	if c.gone.Load() {
		return c.watch.cutOff()
	}
	defer t.endLocked()
	err := t.inner.Commit()
	if err == nil && t.told != nil {
		t.told(c.watch.source)
	}
	return err
}

func (t *dbTx) Rollback() error {
	c := t.op.conn
	c.lock()
	defer c.unlock()
	if c.gone.Load() {
		return nil // it is what has happened
	}
	defer t.endLocked()
	return t.inner.Rollback()
}

func (t *dbTx) endLocked() {
	t.op.conn.tx = nil
	t.op.finish()
}

// dbStmt is a prepared statement.
type dbStmt struct {
	inner driver.Stmt
	conn  *dbConn
}

func (s *dbStmt) NumInput() int { return s.inner.NumInput() }

func (s *dbStmt) Close() error {
	s.conn.lock()
	defer s.conn.unlock()
	return s.inner.Close()
}

func (s *dbStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	o, err := s.conn.begin(ctx, &s.conn.watch.statements)
	if err != nil {
		return nil, err
	}
	defer s.conn.unlock()
	defer o.finish()
	result, err := s.exec(o.ctx, args)
	return result, o.result(err)
}

func (s *dbStmt) exec(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	if e, ok := s.inner.(driver.StmtExecContext); ok {
		return e.ExecContext(ctx, args)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return s.inner.Exec(unnamed(args)) //nolint:staticcheck // of a driver that has nothing newer
}

func (s *dbStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	o, err := s.conn.begin(ctx, &s.conn.watch.statements)
	if err != nil {
		return nil, err
	}
	defer s.conn.unlock()
	rows, err := s.query(o.ctx, args)
	return o.rows(rows, err)
}

func (s *dbStmt) query(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	if q, ok := s.inner.(driver.StmtQueryContext); ok {
		return q.QueryContext(ctx, args)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return s.inner.Query(unnamed(args)) //nolint:staticcheck // of a driver that has nothing newer
}

// Exec and Query are there for the interface. The pool prefers those with a context.
func (s *dbStmt) Exec(args []driver.Value) (driver.Result, error) {
	return s.ExecContext(context.Background(), named(args))
}

// Query runs the statement.
func (s *dbStmt) Query(args []driver.Value) (driver.Rows, error) {
	return s.QueryContext(context.Background(), named(args))
}

func (s *dbStmt) CheckNamedValue(v *driver.NamedValue) error {
	if n, ok := s.inner.(driver.NamedValueChecker); ok {
		return n.CheckNamedValue(v)
	}
	return s.conn.CheckNamedValue(v)
}

// ColumnConverter is that of the driver, or what the pool does without one.
func (s *dbStmt) ColumnConverter(i int) driver.ValueConverter {
	if c, ok := s.inner.(driver.ColumnConverter); ok { //nolint:staticcheck // of a driver that has nothing newer
		return c.ColumnConverter(i)
	}
	return driver.DefaultParameterConverter
}

func named(args []driver.Value) []driver.NamedValue {
	out := make([]driver.NamedValue, len(args))
	for i, v := range args {
		out[i] = driver.NamedValue{Ordinal: i + 1, Value: v}
	}
	return out
}

func unnamed(args []driver.NamedValue) []driver.Value {
	out := make([]driver.Value, len(args))
	for i, v := range args {
		out[i] = v.Value
	}
	return out
}

// dbRows is an answer that is being read. What the driver's rows cannot tell, they tell as the pool would have it without them.
type dbRows struct {
	driver.Rows
	op *dbOp
}

// rows makes the answer of an operation end it when it is closed.
func (o *dbOp) rows(rows driver.Rows, err error) (driver.Rows, error) {
	if err != nil {
		o.finish()
		return nil, o.result(err)
	}
	return &dbRows{rows, o}, nil
}

func (r *dbRows) Next(dest []driver.Value) error {
	r.op.conn.lock()
	defer r.op.conn.unlock()
	err := r.Rows.Next(dest)
	if err == io.EOF {
		return err
	}
	return r.op.result(err)
}

func (r *dbRows) Close() error {
	r.op.conn.lock()
	defer r.op.conn.unlock()
	defer r.op.finish()
	return r.Rows.Close()
}

func (r *dbRows) HasNextResultSet() bool {
	n, ok := r.Rows.(driver.RowsNextResultSet)
	return ok && n.HasNextResultSet()
}

func (r *dbRows) NextResultSet() error {
	n, ok := r.Rows.(driver.RowsNextResultSet)
	if !ok {
		return io.EOF
	}
	r.op.conn.lock()
	defer r.op.conn.unlock()
	return n.NextResultSet()
}

func (r *dbRows) ColumnTypeDatabaseTypeName(i int) string {
	if t, ok := r.Rows.(driver.RowsColumnTypeDatabaseTypeName); ok {
		return t.ColumnTypeDatabaseTypeName(i)
	}
	return ""
}

func (r *dbRows) ColumnTypeScanType(i int) reflect.Type {
	if t, ok := r.Rows.(driver.RowsColumnTypeScanType); ok {
		return t.ColumnTypeScanType(i)
	}
	return reflect.TypeFor[any]()
}

func (r *dbRows) ColumnTypeLength(i int) (int64, bool) {
	if t, ok := r.Rows.(driver.RowsColumnTypeLength); ok {
		return t.ColumnTypeLength(i)
	}
	return 0, false
}

func (r *dbRows) ColumnTypeNullable(i int) (nullable, ok bool) {
	if t, ok := r.Rows.(driver.RowsColumnTypeNullable); ok {
		return t.ColumnTypeNullable(i)
	}
	return false, false
}

func (r *dbRows) ColumnTypePrecisionScale(i int) (precision, scale int64, ok bool) {
	if t, ok := r.Rows.(driver.RowsColumnTypePrecisionScale); ok {
		return t.ColumnTypePrecisionScale(i)
	}
	return 0, 0, false
}
