package fence_test

import (
	"context"
	"database/sql"
	"errors"

	"github.com/quiescehq/quiesce/client"
	"github.com/quiescehq/quiesce/client/fence"
)

// A row that holds its own token: ALTER TABLE accounts ADD COLUMN fence_token BIGINT UNSIGNED NOT NULL DEFAULT 0.
func ExampleFence_Do() {
	accounts, err := fence.NewTable(fence.Spec{Table: "accounts"})
	if err != nil {
		panic(err) // a name that cannot be one of a table
	}
	withdraw := func(ctx context.Context, app *client.App, db *sql.DB, id, amount int64) error {
		lock, err := app.Lock(ctx, "account/42")
		if err != nil {
			return err
		}
		defer lock.Unlock(context.WithoutCancel(ctx))
		return accounts.Row(id).Do(ctx, db, lock.Token(), func(tx *sql.Tx) error {
			var balance int64
			if err := tx.QueryRowContext(ctx, "SELECT balance FROM accounts WHERE id = ?", id).Scan(&balance); err != nil {
				return err
			}
			if balance < amount {
				return errors.New("not enough")
			}
			_, err := tx.ExecContext(ctx, "UPDATE accounts SET balance = ? WHERE id = ?", balance-amount, id)
			return err
		})
	}
	_ = withdraw
}

// Work between reading and writing: the fence is advanced when the lock is granted, before anything is read.
func ExampleRow_Update() {
	accounts, err := fence.NewTable(fence.Spec{Table: "accounts"})
	if err != nil {
		panic(err)
	}
	settle := func(ctx context.Context, db *sql.DB, lock *client.Lock, id int64, compute func(int64) (int64, error)) error {
		row := accounts.Row(id)
		if err := row.Do(ctx, db, lock.Token(), nil); err != nil { // from here on nobody older can write
			return err
		}
		var balance int64
		if err := db.QueryRowContext(ctx, "SELECT balance FROM accounts WHERE id = ?", id).Scan(&balance); err != nil {
			return err
		}
		balance, err := compute(balance) // minutes, without a transaction
		if err != nil {
			return err
		}
		err = row.Update(ctx, db, lock.Token(), "balance = ?", balance)
		if errors.Is(err, fence.ErrFenced) {
			return nil // somebody else has taken over, and the row is theirs
		}
		return err
	}
	_ = settle
}

// What has no row of its own: fence.NamesSchema creates the table.
func ExampleNames() {
	names, err := fence.NewNames("")
	if err != nil {
		panic(err)
	}
	rebuild := func(ctx context.Context, db *sql.DB, lock *client.Lock, month string) error {
		return names.Name(lock.Name()).Do(ctx, db, lock.Token(), func(tx *sql.Tx) error {
			if _, err := tx.ExecContext(ctx, "DELETE FROM totals WHERE month = ?", month); err != nil {
				return err
			}
			_, err := tx.ExecContext(ctx, "INSERT INTO totals SELECT month, SUM(amount) FROM sales WHERE month = ? GROUP BY month", month)
			return err
		})
	}
	_ = rebuild
}
