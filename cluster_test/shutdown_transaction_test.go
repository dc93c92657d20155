package cluster_test

import (
	"context"
	"database/sql"
	"slices"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/cluster_test/harness"
	"github.com/quiescehq/quiesce/cluster_test/services"
)

const (
	rowsAtFirst = 1_000
	doublings   = 7 // of the rows, so that the rollback takes a while
)

// An instance falls silent in the midst of a transaction that has changed many rows, and its connection stays open. The leader ends the connection,
// watches the rollback to its end and says so. The transaction of somebody else on the same server, by the same account, is left alone.
func TestShutdown_TransactionOfALostInstanceIsRolledBack(t *testing.T) {
	t.Parallel()
	pair := services.Require(t)
	c := harness.Start(t, harness.Options{Nodes: 1, MySQL: pair.MySQLDSN})
	b := watchInstances(t, c)
	db, err := sql.Open("mysql", pair.MySQLDSN)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	own, stranger := openTransaction(t, db, "own"), openTransaction(t, db, "strange")
	for range doublings {
		own.exec("INSERT INTO own (text) SELECT text FROM own")
	}
	a, err := enter(c, "silent", "silent", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if err := sayOf(c, a.ID, "keepalive", api.KeepaliveInstance{Incarnation: a.Incarnation,
		Connections: []api.SourceConnections{{Source: "main", IDs: []uint64{own.connection}}}}); err != nil {
		t.Fatal(err)
	}
	lost, err := b.awaitOne(a.ID, "to be lost, and looked after", seenWithin, func(v api.Instance) bool {
		return v.State == api.StateLost && slices.ContainsFunc(v.Adoption, func(s api.AdoptionStep) bool { return s.Step == "done" })
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", lost.Adoption)
	if _, err := own.conn.ExecContext(t.Context(), "COMMIT"); err == nil {
		t.Error("the transaction of the lost instance could still be committed")
	}
	stranger.exec("COMMIT")
	for table, want := range map[string]int{"own": 0, "strange": rowsAtFirst} {
		var rows int
		if err := db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM "+table).Scan(&rows); err != nil || rows != want {
			t.Errorf("%s has %d rows, %v", table, rows, err)
		}
	}
}

// transaction is one that is open on a connection of its own.
type transaction struct {
	t          *testing.T
	conn       *sql.Conn
	connection uint64 // id at the server
}

// openTransaction makes a table and fills it in a transaction.
func openTransaction(t *testing.T, db *sql.DB, table string) *transaction {
	t.Helper()
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	o := &transaction{t: t, conn: conn}
	o.exec("CREATE TABLE " + table + " (id BIGINT AUTO_INCREMENT PRIMARY KEY, text VARCHAR(100) NOT NULL)")
	o.exec("BEGIN")
	if err := conn.QueryRowContext(t.Context(), "SELECT CONNECTION_ID()").Scan(&o.connection); err != nil {
		t.Fatal(err)
	}
	statement, values := "INSERT INTO "+table+" (text) VALUES (REPEAT('x', 90))", ", (REPEAT('x', 90))"
	for range rowsAtFirst - 1 {
		statement += values
	}
	o.exec(statement)
	return o
}

func (o *transaction) exec(statement string) {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.t.Context(), seenWithin)
	defer cancel()
	if _, err := o.conn.ExecContext(ctx, statement); err != nil {
		o.t.Fatal(err)
	}
}
