package fence_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"go.uber.org/goleak"

	"github.com/quiescehq/quiesce/client/fence"
	"github.com/quiescehq/quiesce/cluster_test/services"
)

const connectionsMax = 12

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// store is a database of one test with the row accounts(1) and the table of names.
type store struct {
	*testing.T
	db *sql.DB
}

func newStore(t *testing.T, change ...func(*mysql.Config)) store {
	t.Helper()
	s := store{T: t, db: open(t, services.Require(t).MySQLDSN, change...)}
	s.create()
	return s
}

// create makes the tables that the tests use.
func (s store) create() {
	s.Helper()
	s.exec("CREATE TABLE accounts (id BIGINT PRIMARY KEY, balance BIGINT NOT NULL DEFAULT 0, " + fence.ColumnSchema + ") ENGINE=InnoDB")
	s.exec("CREATE TABLE history (seq BIGINT AUTO_INCREMENT PRIMARY KEY, token BIGINT UNSIGNED NOT NULL) ENGINE=InnoDB")
	s.exec("INSERT INTO accounts (id) VALUES (1)")
	s.exec(fence.NamesSchema)
}

func open(t *testing.T, dsn string, change ...func(*mysql.Config)) *sql.DB {
	t.Helper()
	config, err := mysql.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	config.Logger = &mysql.NopLogger{}
	for _, c := range change {
		c(config)
	}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(connectionsMax)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func (s store) exec(statement string, args ...any) {
	s.Helper()
	if _, err := s.db.ExecContext(s.Context(), statement, args...); err != nil {
		s.Fatalf("%s: %v", statement, err)
	}
}

func (s store) number(query string, args ...any) (n uint64) {
	s.Helper()
	if err := s.db.QueryRowContext(s.Context(), query, args...).Scan(&n); err != nil {
		s.Fatalf("%s: %v", query, err)
	}
	return n
}

func (s store) token() uint64 {
	s.Helper()
	return s.number("SELECT fence_token FROM accounts WHERE id = 1")
}

func (s store) balance() uint64 {
	s.Helper()
	return s.number("SELECT balance FROM accounts WHERE id = 1")
}

func (s store) begin() *sql.Tx {
	s.Helper()
	tx, err := s.db.BeginTx(s.Context(), nil)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = tx.Rollback() })
	return tx
}

func accounts(t *testing.T) *fence.Table {
	t.Helper()
	table, err := fence.NewTable(fence.Spec{Table: "accounts"})
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func names(t *testing.T) *fence.Names {
	t.Helper()
	names, err := fence.NewNames("")
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// deposit is the work of a transaction.
func deposit(t *testing.T, n int) func(*sql.Tx) error {
	return func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), "UPDATE accounts SET balance = balance + ? WHERE id = 1", n)
		return err
	}
}
