package mysql_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/quiescehq/quiesce/cluster_test/services"
	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/mysql"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture is one database: the source under test, and a plain connection to change things behind its back.
type fixture struct {
	*testing.T
	dsn    string
	source *mysql.Source
	db     *sql.DB
}

func newFixture(t *testing.T) fixture {
	t.Helper()
	return fixtureOn(t, services.Require(t).MySQLDSN)
}

func fixtureOn(t *testing.T, dsn string) fixture {
	t.Helper()
	// Generous: this is about answers, and the machine may be busy.
	f := fixture{T: t, dsn: dsn, source: open(t, mysql.Config{Name: "shop", DSN: dsn, QueryTimeout: 20 * time.Second, ConnectionsMax: 2})}
	db, err := sql.Open("mysql", dsn+"?charset=utf8mb4")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(2)
	t.Cleanup(func() { db.Close() })
	f.db = db
	return f
}

func open(t *testing.T, cfg mysql.Config) *mysql.Source {
	t.Helper()
	source, err := mysql.Open(cfg)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { source.Close() })
	return source
}

func (f fixture) exec(statements ...string) {
	f.Helper()
	for _, statement := range statements {
		if _, err := f.db.ExecContext(f.Context(), statement); err != nil {
			f.Fatalf("%s: %v", statement, err)
		}
	}
}

// compile joins a spec for the table with the table's real columns.
func (f fixture) compile(table string, primaryKey []string, columns ...string) *mapping.Mapping {
	f.Helper()
	spec := specOf(table, primaryKey, columns...)
	described, err := f.source.Columns(f.Context(), table)
	if err != nil {
		f.Fatalf("Columns: %v", err)
	}
	m, err := mapping.Compile(spec, 1, described)
	if err != nil {
		f.Fatalf("Compile: %v", err)
	}
	return m
}

func specOf(table string, primaryKey []string, columns ...string) mapping.Spec {
	key := table
	for _, c := range primaryKey {
		key += ":{" + c + "}"
	}
	spec := mapping.Spec{Source: "shop", Table: table, PrimaryKey: primaryKey, Target: "cache", Key: key, Mode: mapping.WriteThrough, Encoding: mapping.JSON}
	for _, c := range columns {
		spec.Columns = append(spec.Columns, mapping.ColumnSpec{Name: c})
	}
	return spec
}

// both reads one row by key and by chunk, and insists that the two agree.
func (f fixture) both(ctx context.Context, m *mapping.Mapping, pk ...string) *mapping.Row {
	f.Helper()
	row, err := f.source.ReadRow(ctx, m, pk)
	if err != nil {
		f.Fatalf("ReadRow: %v", err)
	}
	chunk, err := f.source.ReadChunk(ctx, m, nil, mysql.ChunkRowsMax)
	if err != nil {
		f.Fatalf("ReadChunk: %v", err)
	}
	for i := range chunk {
		if mapping.EncodeKey(chunk[i].PK) != mapping.EncodeKey(pk) {
			continue
		}
		if row == nil || render(f.T, m, row) != render(f.T, m, &chunk[i]) {
			f.Fatalf("ReadRow and ReadChunk differ for %q", pk)
		}
		return row
	}
	if row != nil {
		f.Fatalf("ReadChunk lacks %q", pk)
	}
	return nil
}

func render(t *testing.T, m *mapping.Mapping, row *mapping.Row) string {
	t.Helper()
	w, err := m.Render(row.Key, row, 1)
	if err != nil {
		t.Fatalf("Render: %v", err)
	}
	return string(w.Value)
}
