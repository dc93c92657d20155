package client

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"time"

	"github.com/quiescehq/quiesce/api"
)

// ErrCutOff says that the drain has ended what a connection did, because its time was up. A transaction is rolled back; whether a
// statement outside one was applied is not known.
var ErrCutOff = errors.New("client: ended by the drain")

// DB is a pool of connections that stops with its instance. It is a [sql.DB], with everything that belongs to one, and its field DB can
// be given to whatever asks for one: the watch is below it, around each connection of the driver.
//
// Transactions and statements outside of them are counted and reported (transactions_open, statements_open). Until the phase transactions
// begins nothing is refused: requests that were admitted, and background work, may begin transactions as long as they are waited for.
// From then on only what is open already goes on, and the drain's own tasks ([App.On], [App.Flush]), as long as they use the context
// that they are given; everything else gets ErrStopping. When three quarters of the phase are over, what is still open is rolled back or
// cancelled and its users get ErrCutOff. In the phase close, after the servers and beside the application's own tasks, the pool is closed
// once no connection is in use. A drain that is undone opens it again.
type DB struct {
	*sql.DB
	watch *dbWatch
}

var sourceName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

// OpenDB takes the place of [sql.OpenDB]. The source is the name that the coordinator has for this server; it is told the ids of the
// connections, as the proof that a transaction which this instance leaves behind is its own. An empty source keeps them to oneself, and is
// for servers that have no CONNECTION_ID().
//
// Close it after Run, or leave that to the drain: closing twice does no harm.
func (a *App) OpenDB(connector driver.Connector, source string) (*DB, error) {
	if source != "" && !sourceName.MatchString(source) {
		return nil, fmt.Errorf("%w: source %q", ErrConfig, source)
	}
	w := &dbWatch{name: source, source: source, log: a.log}
	if source == "" {
		w.name = "without a source"
	}
	pool := sql.OpenDB(&dbConnector{inner: connector, watch: w})
	err := a.drainPool(w.name, func(ctx context.Context) error { return w.settle(ctx) },
		func(ctx context.Context) error { return w.end(ctx, pool) }, Undo(w.reopen))
	if err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	a.gate.databases.add(a, w.transactions.Load, w.statements.Load)
	if source != "" {
		a.addConnections(func() []api.SourceConnections { return []api.SourceConnections{{Source: source, IDs: w.ids()}} })
	}
	return &DB{DB: pool, watch: w}, nil
}

// OpenDSN takes the place of [sql.Open]: the driver is one that registered itself by that name.
func (a *App) OpenDSN(driverName, dsn, source string) (*DB, error) {
	pool, err := sql.Open(driverName, dsn)
	if err != nil {
		return nil, err
	}
	d := pool.Driver()
	if err := pool.Close(); err != nil {
		return nil, err
	}
	if c, ok := d.(driver.DriverContext); ok {
		connector, err := c.OpenConnector(dsn)
		if err != nil {
			return nil, err
		}
		return a.OpenDB(connector, source)
	}
	return a.OpenDB(dsnConnector{d, dsn}, source)
}

// dsnConnector is what sql.Open makes of a driver that has no connectors.
type dsnConnector struct {
	driver driver.Driver
	dsn    string
}

func (c dsnConnector) Connect(context.Context) (driver.Conn, error) { return c.driver.Open(c.dsn) }
func (c dsnConnector) Driver() driver.Driver                        { return c.driver }

// AdoptDB makes a pool that something else has opened end with the instance, as far as that goes from outside: the phase transactions
// waits until none of its connections is in use, and the phase close again before it closes the pool. Nothing is refused or cut, and no
// connections are reported. The name is for the log.
func (a *App) AdoptDB(pool *sql.DB, name string) error {
	inUse := func() int64 { return int64(pool.Stats().InUse) }
	err := a.drainPool(name, func(ctx context.Context) error {
		if n := poll(ctx, inUse); n > 0 {
			return fmt.Errorf("database %s: %d connections in use", name, n)
		}
		return nil
	}, func(ctx context.Context) error { return endPool(ctx, name, pool) })
	if err == nil {
		a.gate.databases.add(a, func() int64 { return 0 }, inUse)
	}
	return err
}

func (a *App) drainPool(name string, settle, end func(context.Context) error, opts ...TaskOption) error {
	if err := a.On(PhaseTransactions, "database "+name, settle, opts...); err != nil {
		return err
	}
	return a.On(PhaseClose, "database "+name, end, After(TaskServers))
}

// databases are those of one instance.
type databases struct {
	mu           sync.Mutex
	transactions []func() int64
	statements   []func() int64
}

// add makes one more part of the counters, which are read under a lock of their own.
func (d *databases) add(a *App, transactions, statements func() int64) {
	d.mu.Lock()
	d.transactions = append(d.transactions, transactions)
	d.statements = append(d.statements, statements)
	first := len(d.statements) == 1
	d.mu.Unlock()
	if first {
		a.Counter("transactions_open", func() uint64 { return d.sum(&d.transactions) })
		a.Counter("statements_open", func() uint64 { return d.sum(&d.statements) })
	}
}

func (d *databases) sum(of *[]func() int64) uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	var n int64
	for _, read := range *of {
		n += read()
	}
	return uint64(max(n, 0))
}

// TxOption changes how Tx works.
type TxOption func(*txOptions)

type txOptions struct {
	sql   sql.TxOptions
	again func(error) bool

	prepareTTL time.Duration // of InTx; 0 for the coordinator's choice
}

// TxWith sets the isolation level, or makes the transaction read-only.
func TxWith(o sql.TxOptions) TxOption { return func(t *txOptions) { t.sql = o } }

// RetryOnce makes Tx do the work a second time if it failed with an error of which again answers true: a deadlock, after which MySQL has
// rolled everything back and asks to try again.
//
//	client.RetryOnce(func(err error) bool {
//		var refused *mysql.MySQLError
//		return errors.As(err, &refused) && refused.Number == 1213
//	})
//
// The work must bear being done twice.
func RetryOnce(again func(error) bool) TxOption { return func(t *txOptions) { t.again = again } }

// Tx begins a transaction, lets work use it, and commits. An error of work, a panic in it and the end of ctx roll it back. An error whose
// cause is neither work nor ctx, nor one of ErrStopping and ErrCutOff, may come from the commit, and then leaves open whether it happened.
func (db *DB) Tx(ctx context.Context, work func(tx *sql.Tx) error, opts ...TxOption) error {
	var o txOptions
	for _, opt := range opts {
		opt(&o)
	}
	err := db.tx(ctx, work, &o.sql)
	if err != nil && o.again != nil && o.again(err) && ctx.Err() == nil {
		err = db.tx(ctx, work, &o.sql)
	}
	return err
}

func (db *DB) tx(ctx context.Context, work func(tx *sql.Tx) error, opts *sql.TxOptions) error {
	tx, err := db.BeginTx(ctx, opts)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after the commit, and what fails to roll back ends with its connection
	if err := work(tx); err != nil {
		return err
	}
	err = tx.Commit()
	if errors.Is(err, sql.ErrTxDone) && ctx.Err() != nil { // the pool has rolled it back since
		err = ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}
