package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/go-sql-driver/mysql"

	"github.com/quiescehq/quiesce/client"
)

var (
	errNotFound = errors.New("no such order")
	// errFenced says that a newer holder of the order's lock has already written.
	errFenced = errors.New("the lock on the order was lost")
)

const (
	duplicateEntry = 1062
	deadlock       = 1213
)

var schema = []string{
	`CREATE TABLE IF NOT EXISTS orders (
		id          BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
		customer    VARCHAR(64) NOT NULL,
		status      VARCHAR(16) NOT NULL,
		amount      DECIMAL(12,2) NOT NULL,
		note        VARCHAR(500) NOT NULL,
		version     INT UNSIGNED NOT NULL,
		fence_token BIGINT UNSIGNED NOT NULL DEFAULT 0,
		updated_at  DATETIME(6) NOT NULL
	) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4`,
	`CREATE TABLE IF NOT EXISTS ledger (
		request_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
		order_id   BIGINT UNSIGNED NOT NULL
	) ENGINE=InnoDB`,
}

// order is a row as clients see it.
type order struct {
	ID        int64  `json:"id"`
	Customer  string `json:"customer"`
	Status    string `json:"status"`
	Amount    string `json:"amount"`
	Note      string `json:"note"`
	Version   int64  `json:"version"`
	UpdatedAt string `json:"updated_at"` // as MySQL prints it
}

// table is where orders are kept.
type table struct{ db *client.DB }

// openTable connects and creates what is missing. The pool stops with the instance: see client.DB.
func openTable(app *client.App, cfg config) (*client.DB, error) {
	settings, err := mysql.ParseDSN(cfg.mysqlDSN)
	if err != nil {
		return nil, fmt.Errorf("ORDERS_MYSQL_DSN: %w", err)
	}
	settings.ParseTime = false // times stay as the server prints them, like in the cache
	connector, err := mysql.NewConnector(settings)
	if err != nil {
		return nil, fmt.Errorf("ORDERS_MYSQL_DSN: %w", err)
	}
	db, err := app.OpenDB(connector, cfg.source)
	if err != nil {
		return nil, fmt.Errorf("ORDERS_SOURCE: %w", err)
	}
	db.SetMaxOpenConns(connectionsMax)
	db.SetMaxIdleConns(connectionsMax)
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for _, statement := range schema {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return nil, errors.Join(fmt.Errorf("create tables: %w", err), db.Close())
		}
	}
	return db, nil
}

// create inserts an order for a request, or gives the one that the same request made before.
func (t table) create(ctx context.Context, request string, o order) (id int64, repeated bool, err error) {
	err = t.db.Tx(ctx, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, "INSERT INTO orders (customer, status, amount, note, version, updated_at) VALUES (?, 'new', ?, ?, 1, NOW(6))",
			o.Customer, o.Amount, o.Note)
		if err != nil {
			return err
		}
		if id, err = result.LastInsertId(); err != nil {
			return err
		}
		return note(ctx, tx, request, id)
	}, again)
	if isDuplicate(err) {
		err = t.db.QueryRowContext(ctx, "SELECT order_id FROM ledger WHERE request_id = ?", request).Scan(&id)
		return id, true, err
	}
	return id, false, err
}

// update changes an order for the holder of its lock. The token makes sure that this still is the last one: a conditional update checks and
// sets it in one step.
func (t table) update(ctx context.Context, request string, id int64, token uint64, status, text string) (repeated bool, err error) {
	err = t.db.Tx(ctx, func(tx *sql.Tx) error {
		if err := note(ctx, tx, request, id); err != nil {
			return err
		}
		result, err := tx.ExecContext(ctx, `UPDATE orders SET status = ?, note = ?, version = version + 1, fence_token = ?, updated_at = NOW(6)
			WHERE id = ? AND fence_token <= ?`, status, text, token, id, token)
		if err != nil {
			return err
		}
		if changed, err := result.RowsAffected(); err != nil || changed == 1 {
			return err
		}
		return whyUnchanged(ctx, tx, id)
	}, again)
	if isDuplicate(err) {
		return true, nil
	}
	return false, err
}

func whyUnchanged(ctx context.Context, tx *sql.Tx, id int64) error {
	var found int
	err := tx.QueryRowContext(ctx, "SELECT 1 FROM orders WHERE id = ?", id).Scan(&found)
	if errors.Is(err, sql.ErrNoRows) {
		return errNotFound
	}
	if err != nil {
		return err
	}
	return errFenced
}

// note writes the request into the ledger. Its primary key refuses the second.
func note(ctx context.Context, tx *sql.Tx, request string, id int64) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO ledger (request_id, order_id) VALUES (?, ?)", request, id)
	return err
}

func (t table) read(ctx context.Context, id int64) (o order, err error) {
	err = t.db.QueryRowContext(ctx, "SELECT id, customer, status, amount, note, version, updated_at FROM orders WHERE id = ?", id).
		Scan(&o.ID, &o.Customer, &o.Status, &o.Amount, &o.Note, &o.Version, &o.UpdatedAt)
	if errors.Is(err, sql.ErrNoRows) {
		err = errNotFound
	}
	return o, err
}

// again lets a transaction that lost a deadlock be done once more: it was rolled back, and says the same a second time.
var again = client.RetryOnce(func(err error) bool { return isRefusal(err, deadlock) })

func isDuplicate(err error) bool { return isRefusal(err, duplicateEntry) }

func isRefusal(err error, number uint16) bool {
	var refused *mysql.MySQLError
	return errors.As(err, &refused) && refused.Number == number
}
