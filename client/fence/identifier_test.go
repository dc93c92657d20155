package fence_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/quiescehq/quiesce/client/fence"
)

func TestTable_OddIdentifiersReachTheServerAsTheyAre(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	schema := s.schema()
	for _, odd := range []string{"select", "a b", "a`b", "``", "a;DROP TABLE accounts", `a"b'c`, "a\\", "--", "%s%d", "UPPER", "a.b", strings.Repeat("x", 64)} {
		key, column := odd[:1]+"key`", odd[:1]+" token"
		s.exec(fmt.Sprintf("CREATE TABLE %s (%s INT PRIMARY KEY, v INT, %s BIGINT UNSIGNED NOT NULL DEFAULT 0)", doubled(odd), doubled(key), doubled(column)))
		s.exec("INSERT INTO " + doubled(odd) + " VALUES (1, 0, 0)")
		for i, in := range []string{"", schema} {
			table, err := fence.NewTable(fence.Spec{Schema: in, Table: odd, Key: []string{key}, Column: column})
			if err != nil {
				t.Errorf("%q: %v", odd, err)
				continue
			}
			token := uint64(10 * (i + 1))
			if err := errors.Join(table.Row(1).Do(t.Context(), s.db, token, nil), table.Row(1).Update(t.Context(), s.db, token+1, "v = ?", token)); err != nil {
				t.Errorf("%q: %v", odd, err)
			}
		}
		if got := s.number("SELECT v + " + doubled(column) + " FROM " + doubled(odd)); got != 41 {
			t.Errorf("%q holds %d", odd, got)
		}
	}
	if s.balance() != 0 {
		t.Error("another table was written")
	}
}

func doubled(identifier string) string { return "`" + strings.ReplaceAll(identifier, "`", "``") + "`" }

func (s store) schema() (name string) {
	s.Helper()
	if err := s.db.QueryRowContext(s.Context(), "SELECT DATABASE()").Scan(&name); err != nil {
		s.Fatal(err)
	}
	return name
}

func TestTable_IdentifiersThatCannotBeQuotedSafelyAreRefused(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"a\x00", "a\n", "a\x7f", "tâble", "a ", "a?", strings.Repeat("x", 65), "\xe5"} {
		for where, spec := range map[string]fence.Spec{
			"schema": {Schema: bad, Table: "a"}, "table": {Table: bad}, "key": {Table: "a", Key: []string{"id", bad}}, "column": {Table: "a", Column: bad},
		} {
			if _, err := fence.NewTable(spec); !errors.Is(err, fence.ErrIdentifier) {
				t.Errorf("%s %q: %v", where, bad, err)
			}
		}
		if _, err := fence.NewNames(bad); !errors.Is(err, fence.ErrIdentifier) {
			t.Errorf("names %q: %v", bad, err)
		}
	}
	if _, err := fence.NewTable(fence.Spec{}); !errors.Is(err, fence.ErrIdentifier) {
		t.Errorf("no table: %v", err)
	}
	if _, err := fence.NewTable(fence.Spec{Table: "a", Key: make([]string, 17)}); !errors.Is(err, fence.ErrKey) {
		t.Errorf("17 key columns: %v", err)
	}
}
