package main

import "context"

// fill makes the table anew with rows 1 to n: a few of its own, and then copies of them all, again and again.
func (w *world) fill(ctx context.Context, n int) error {
	for _, statement := range []string{"DROP TABLE IF EXISTS items", itemsTable, `INSERT INTO items VALUES (1, 'Wrench, "10 mm"', 7, 12.50, 'in the drawer below the bench, beside the others; do not lend', '2026-01-02 03:04:05.678', NULL)`} {
		if err := w.Exec(ctx, statement); err != nil {
			return err
		}
	}
	for have := 1; have < n; {
		more := min(have, n-have, copyRows)
		if err := w.Exec(ctx, "INSERT INTO items SELECT id + ?, CONCAT('Wrench, \"', id, ' mm\"'), n + 1, price + 0.25, note, changed, weight FROM items WHERE id <= ?", have, more); err != nil {
			return err
		}
		have += more
	}
	return w.Exec(ctx, "ANALYZE TABLE items")
}

const (
	copyRows   = 1 << 17
	itemsTable = `CREATE TABLE items (id BIGINT NOT NULL PRIMARY KEY, name VARCHAR(64) NOT NULL, n INT NOT NULL, price DECIMAL(10,2) NOT NULL, note VARCHAR(200) NOT NULL,
  changed DATETIME(3) NOT NULL, weight DOUBLE NULL) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4`
)
