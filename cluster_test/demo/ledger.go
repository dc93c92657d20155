package main

import (
	"context"
	"database/sql"
	"fmt"
)

// audit compares what clients were told with what was committed.
type audit struct {
	acked     int // request ids that were answered with success
	committed int // rows of the ledger
	lost      int // acknowledged and not committed for that order
	unasked   int // committed and not acknowledged
	uneven    int // orders whose version is not the number of their requests: something ran twice, or half
}

func (a audit) String() string {
	return fmt.Sprintf("%d acknowledged, %d committed; lost %d, not acknowledged %d, orders changed more or less often than asked %d",
		a.acked, a.committed, a.lost, a.unasked, a.uneven)
}

func (a audit) exact() bool {
	return a.acked > 0 && a.acked == a.committed && a.lost == 0 && a.unasked == 0 && a.uneven == 0
}

// auditLedger reads the ledger, and each order's version: one for its creation and one for each update.
func auditLedger(ctx context.Context, db *sql.DB, acked map[string]int64) (audit, error) {
	committed, err := readPairs[string](ctx, db, "SELECT request_id, order_id FROM ledger")
	if err != nil {
		return audit{}, fmt.Errorf("read the ledger: %w", err)
	}
	versions, err := readPairs[int64](ctx, db, "SELECT id, version FROM orders")
	if err != nil {
		return audit{}, fmt.Errorf("read the versions: %w", err)
	}
	a := audit{acked: len(acked), committed: len(committed)}
	for request, order := range acked {
		if committed[request] != order {
			a.lost++
		}
	}
	requests := map[int64]int64{}
	for request, order := range committed {
		requests[order]++
		if _, known := acked[request]; !known {
			a.unasked++
		}
	}
	for order, version := range versions {
		if requests[order] != version {
			a.uneven++
		}
		delete(requests, order)
	}
	a.uneven += len(requests) // requests for orders that are not there
	return a, nil
}

func readPairs[K comparable](ctx context.Context, db *sql.DB, query string) (map[K]int64, error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[K]int64{}
	for rows.Next() {
		var key K
		var value int64
		if err := rows.Scan(&key, &value); err != nil {
			return nil, err
		}
		out[key] = value
	}
	return out, rows.Err()
}
