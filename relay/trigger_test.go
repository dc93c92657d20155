package relay_test

import (
	"testing"

	"github.com/quiescehq/quiesce/mysql"
)

// From a statement of an application that knows nothing to events in the log.
func TestRelay_StatementsOfAnyoneBecomeEventsByTriggers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec("CREATE TABLE items (id BIGINT PRIMARY KEY, v INT)")
	schema, err := mysql.OpenSchema(mysql.Config{Name: sourceName, DSN: w.dsn})
	if err != nil {
		t.Fatal(err)
	}
	defer schema.Close()
	plan, err := schema.PlanTriggers(t.Context(), mysql.TriggerSpec{Mapping: mappingName, Table: "items", PrimaryKey: []string{"id"}, Columns: []string{"v"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := schema.ApplyTriggers(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.exec("INSERT INTO items VALUES (1, 1), (2, 1)")
	w.exec("UPDATE items SET id = 3 WHERE id = 1")
	w.exec("DELETE FROM items WHERE id = 2")
	w.until("the table is empty", func() bool { return w.rows() == 0 })
	for _, pk := range []string{`["1"]`, `["2"]`, `["3"]`} {
		if _, ok := w.log.event(mappingName, pk); !ok {
			t.Errorf("no event of %s", pk)
		}
	}
	if n := w.log.pending(); n != 3 || w.status().Refused != 0 {
		t.Errorf("%d events, %d rows refused", n, w.status().Refused)
	}
}
