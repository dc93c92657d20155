package mysql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

const (
	// TransactionReadsEvery is the least time between two readings of INNODB_TRX. The table is a cache of the whole server's that is filled anew
	// only when nobody has read it for 100 ms: whoever reads faster sees the same moment for ever.
	TransactionReadsEvery = 250 * time.Millisecond
	// TransactionsMax bounds the rows of one reading. The oldest come first.
	TransactionsMax = 10_000

	transactionsTimeout = 5 * time.Second // of one call: the server may be in trouble just then
	processesMax        = 500             // ids of one statement
	startTries          = 3
)

// ErrLacksProcess means that the account may not read INNODB_TRX. It comes beside [ErrDenied].
var ErrLacksProcess = errors.New("the account lacks the privilege PROCESS")

// numbers of the server's errors that decide here.
const (
	errorNoSuchThread   = 1094
	errorNotOwner       = 1095
	errorNeedsPrivilege = 1227
)

// Life tells one life of one server from another: connection ids begin anew in each. A server that starts twice within a second has one Life
// in both.
type Life struct {
	Server    string // id, host name and port, as the server says
	StartedAt int64  // Unix seconds of the server's clock
}

// Transaction is a row of INNODB_TRX. Trx, Thread and StartedAt together tell it from others of the same life.
type Transaction struct {
	Trx          string // 0 or a large number for one that has not written yet
	Thread       uint64 // connection id; 0 when the connection is gone and the rollback goes on
	StartedAt    int64  // Unix seconds of the server's clock
	State        string // RUNNING, LOCK WAIT, ROLLING BACK or COMMITTING
	Age          time.Duration
	RowsModified uint64 // of one that is rolled back: those that are left
	RowsLocked   uint64
	Statement    string // by Scrub; only of one that is older than what [TransactionReader.Read] was told
}

// Same tells whether two readings of one life saw the same transaction.
func (t Transaction) Same(other Transaction) bool {
	return t.Trx == other.Trx && t.Thread == other.Thread && t.StartedAt == other.StartedAt
}

// StateRollingBack is the state of a transaction that undoes its changes.
const StateRollingBack = "ROLLING BACK"

// Process is a connection in the process list.
type Process struct {
	User    string
	Host    string // with the port: no two connections of one moment share it
	Command string // Sleep when nothing runs, Killed when it is being ended
}

// Reading is what INNODB_TRX held at one moment.
type Reading struct {
	Life         Life
	Connection   uint64        // number of the reader's connection, which does not outlast the server's life
	Uptime       time.Duration // of the server, by its own clock
	Transactions []Transaction // oldest first, at most TransactionsMax
	Whole        bool          // all of them
}

// TransactionReader looks at the transactions of one server, and ends them. It has one connection, and belongs to one goroutine at a time.
type TransactionReader struct {
	source *Source // for its pool, of one connection

	conn     *sql.Conn // nil when there is none
	number   uint64    // of conn, among all that this reader had
	opened   time.Time
	thread   uint64 // our own connection's id
	life     Life
	lastRead time.Time
	ownSeen  bool // the last reading showed a transaction of ours
}

// OpenTransactions checks the configuration. It does not connect. The DSN's database is not used, and need not be given.
func OpenTransactions(cfg Config) (*TransactionReader, error) {
	if dsn, err := mysql.ParseDSN(cfg.DSN); err == nil {
		dsn.DBName = "information_schema"
		cfg.DSN = dsn.FormatDSN()
	}
	if cfg.QueryTimeout <= 0 {
		cfg.QueryTimeout = transactionsTimeout
	}
	cfg.ConnectionsMax = 1
	source, err := Open(cfg)
	if err != nil {
		return nil, err
	}
	return &TransactionReader{source: source}, nil
}

// Close ends the connection.
func (r *TransactionReader) Close() error {
	r.Release()
	return r.source.Close()
}

// Release gives the connection back to the server until the next reading.
func (r *TransactionReader) Release() {
	if r.conn != nil {
		_ = r.conn.Raw(func(any) error { return driver.ErrBadConn }) // or the pool would keep it open
		_ = r.conn.Close()
	}
	r.conn = nil
}

// Read reads INNODB_TRX, not before TransactionReadsEvery has passed since the last time. Statements come only with transactions that are at
// least so old.
func (r *TransactionReader) Read(ctx context.Context, statementsFrom time.Duration) (Reading, error) {
	if time.Since(r.opened) > connectionLifeMax {
		r.Release()
	}
	reading, err := r.read(ctx, statementsFrom)
	return reading, r.judge(ctx, err)
}

// judge drops the connection after an error and classifies it.
func (r *TransactionReader) judge(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	r.Release()
	if serverError(err) == errorNeedsPrivilege {
		return fmt.Errorf("source %s: %w: %w", r.source.name, ErrDenied, ErrLacksProcess)
	}
	return r.source.wrap(ctx, err)
}

func serverError(err error) uint16 {
	if server, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return server.Number
	}
	return 0
}

// connect takes the one connection and learns whose it is.
func (r *TransactionReader) connect(ctx context.Context) error {
	if r.conn != nil {
		return nil
	}
	conn, err := r.source.pool.Conn(ctx)
	if err != nil {
		return err
	}
	r.conn, r.opened, r.ownSeen = conn, time.Now(), false
	r.number++
	// trx_started is in the time zone of the server's process, whatever the session's is.
	if _, err := conn.ExecContext(ctx, "SET time_zone = 'SYSTEM'"); err != nil {
		return err
	}
	if err := conn.QueryRowContext(ctx, "SELECT CONNECTION_ID(), CONCAT_WS('/', @@server_id, @@hostname, @@port)").Scan(&r.thread, &r.life.Server); err != nil {
		return err
	}
	r.life.StartedAt, err = startOf(ctx, conn)
	return err
}

// startOf gives the second in which the server started: the clock and the uptime are read within the same second.
func startOf(ctx context.Context, conn *sql.Conn) (int64, error) {
	for range startTries {
		var before, uptime, after int64
		var name string
		for _, q := range []struct {
			statement string
			into      []any
		}{
			{"SELECT UNIX_TIMESTAMP()", []any{&before}},
			{"SHOW GLOBAL STATUS LIKE 'Uptime'", []any{&name, &uptime}}, // needs no performance_schema
			{"SELECT UNIX_TIMESTAMP()", []any{&after}},
		} {
			if err := conn.QueryRowContext(ctx, q.statement).Scan(q.into...); err != nil {
				return 0, err
			}
		}
		if before == after {
			return after - uptime, nil
		}
	}
	return 0, fmt.Errorf("%w: three small statements took more than a second", ErrUnreachable)
}

// pause waits until INNODB_TRX may be read again.
func (r *TransactionReader) pause(ctx context.Context) error {
	timer := time.NewTimer(TransactionReadsEvery - time.Since(r.lastRead))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// errFrozen means that the cache behind INNODB_TRX was not filled for us: somebody else reads it all the time.
var errFrozen = errors.New("INNODB_TRX is frozen")

func (r *TransactionReader) read(ctx context.Context, statementsFrom time.Duration) (Reading, error) {
	if err := r.pause(ctx); err != nil {
		return Reading{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, transactionsTimeout)
	defer cancel()
	if err := r.connect(ctx); err != nil {
		return Reading{}, err
	}
	return r.rows(ctx, statementsFrom)
}

// prove reads what INNODB_TRX holds after the call: it shows a transaction that did not show before, because it was begun for that.
func (r *TransactionReader) prove(ctx context.Context) (Reading, error) {
	if r.ownSeen {
		if _, err := r.read(ctx, never); err != nil {
			return Reading{}, err
		}
		if r.ownSeen {
			return Reading{}, errFrozen
		}
	}
	if err := r.pause(ctx); err != nil {
		return Reading{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, transactionsTimeout)
	defer cancel()
	if err := r.connect(ctx); err != nil {
		return Reading{}, err
	}
	if _, err := r.conn.ExecContext(ctx, "START TRANSACTION WITH CONSISTENT SNAPSHOT"); err != nil {
		return Reading{}, err
	}
	reading, err := r.rows(ctx, never)
	if err != nil {
		return Reading{}, err
	}
	if _, err := r.conn.ExecContext(ctx, "COMMIT"); err != nil {
		return Reading{}, err
	}
	if !r.ownSeen {
		return Reading{}, errFrozen
	}
	return reading, nil
}

// never asks for no statements.
const never = 1_000_000 * time.Hour

const selectTransactions = "SELECT UNIX_TIMESTAMP(), trx_id, trx_mysql_thread_id, UNIX_TIMESTAMP(trx_started), trx_state, trx_rows_modified, trx_rows_locked," +
	" IF(trx_started <= NOW() - INTERVAL ? SECOND, trx_query, NULL) FROM information_schema.INNODB_TRX ORDER BY trx_started LIMIT ?"

func (r *TransactionReader) rows(ctx context.Context, statementsFrom time.Duration) (Reading, error) {
	defer func() { r.lastRead = time.Now() }()
	rows, err := r.conn.QueryContext(ctx, selectTransactions, int64(statementsFrom/time.Second), TransactionsMax+1)
	if err != nil {
		return Reading{}, err
	}
	defer rows.Close()
	r.ownSeen = false
	reading := Reading{Life: r.life, Connection: r.number, Whole: true}
	for rows.Next() {
		t, err := scanTransaction(rows)
		switch {
		case err != nil:
			return Reading{}, err
		case t.Thread == r.thread:
			r.ownSeen = true
		case len(reading.Transactions) == TransactionsMax:
			reading.Whole = false
		default:
			reading.Transactions = append(reading.Transactions, t)
		}
	}
	if err := rows.Err(); err != nil {
		return Reading{}, err
	}
	var now int64
	if err := r.conn.QueryRowContext(ctx, "SELECT UNIX_TIMESTAMP()").Scan(&now); err != nil {
		return Reading{}, err
	}
	reading.Uptime = seconds(now - r.life.StartedAt)
	return reading, nil
}

func scanTransaction(rows *sql.Rows) (t Transaction, err error) {
	var now int64
	var statement sql.NullString
	err = rows.Scan(&now, &t.Trx, &t.Thread, &t.StartedAt, &t.State, &t.RowsModified, &t.RowsLocked, &statement)
	t.Age = seconds(now - t.StartedAt)
	t.Statement = Scrub(statement.String)
	return t, err
}

func seconds(n int64) time.Duration { return time.Duration(max(n, 0)) * time.Second }

// Processes gives those of the connections that are there. They are of the same life as the last reading.
func (r *TransactionReader) Processes(ctx context.Context, threads []uint64) (map[uint64]Process, error) {
	found, err := r.processes(ctx, threads)
	return found, r.judge(ctx, err)
}

var errNoConnection = fmt.Errorf("%w: no connection since the last reading", ErrUnreachable)

func (r *TransactionReader) processes(ctx context.Context, threads []uint64) (map[uint64]Process, error) {
	if r.conn == nil {
		return nil, errNoConnection
	}
	ctx, cancel := context.WithTimeout(ctx, transactionsTimeout)
	defer cancel()
	found := make(map[uint64]Process, len(threads))
	for len(threads) > 0 {
		some := threads[:min(len(threads), processesMax)]
		threads = threads[len(some):]
		if err := r.someProcesses(ctx, some, found); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func (r *TransactionReader) someProcesses(ctx context.Context, threads []uint64, found map[uint64]Process) error {
	ids := make([]string, len(threads))
	for i, thread := range threads {
		ids[i] = strconv.FormatUint(thread, 10)
	}
	rows, err := r.conn.QueryContext(ctx, "SELECT ID, USER, HOST, COMMAND FROM information_schema.PROCESSLIST WHERE ID IN ("+strings.Join(ids, ",")+")")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id uint64
		var p Process
		if err := rows.Scan(&id, &p.User, &p.Host, &p.Command); err != nil {
			return err
		}
		found[id] = p
	}
	return rows.Err()
}
