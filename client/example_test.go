package client_test

import (
	"context"
	"database/sql"
	"errors"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/quiescehq/quiesce/client"
)

// An application that stops without losing a request.
func Example() {
	app, err := client.Join("orders", client.FromEnv())
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/healthz", app.Liveness())
	mux.Handle("/readyz", app.Readiness())
	os.Exit(app.Run(&http.Server{Addr: ":8080", Handler: app.Handler(mux)}))
}

// A lock whose token lets the database refuse a holder that lost it without knowing.
func ExampleApp_Lock() {
	update := func(ctx context.Context, app *client.App, db *sql.DB, id int64) error {
		lock, err := app.Lock(ctx, "order/42", client.WaitAtMost(2*time.Second))
		if errors.Is(err, client.ErrLockWaitTimeout) {
			return errors.New("somebody else works on this order")
		}
		if err != nil {
			return err
		}
		defer lock.Unlock(context.WithoutCancel(ctx))
		_, err = db.ExecContext(ctx, "UPDATE orders SET status = 'paid', fence_token = ? WHERE id = ? AND fence_token <= ?",
			lock.Token(), id, lock.Token())
		return err
	}
	_ = update
}

// A change of a row that the cache will follow.
func ExampleClient_Enqueue() {
	changed := func(ctx context.Context, c *client.Client, id int64) error {
		_, err := c.Enqueue(ctx, "orders", id) // after the commit
		return err
	}
	_ = changed
}

// What must be saved before the process ends, and what could not be.
func ExampleApp_Flush() {
	register := func(app *client.App, dirty interface {
		Flush(context.Context) error
		Len() int
	}) {
		app.Flush("dirty keys", func(ctx context.Context) (int, error) {
			err := dirty.Flush(ctx)
			return dirty.Len(), err
		})
		app.Counter("dirty_keys", func() uint64 { return uint64(dirty.Len()) })
	}
	_ = register
}

// A lock in a program that serves nothing.
func ExampleClient_OpenSession() {
	once := func(ctx context.Context) error {
		c, err := client.New(client.Config{Addrs: []string{"127.0.0.1:8400"}})
		if err != nil {
			return err
		}
		defer c.Close()
		session, err := c.OpenSession(ctx, "nightly job", 0)
		if err != nil {
			return err
		}
		defer session.Close(context.WithoutCancel(ctx))
		lock, err := session.Lock(ctx, "nightly", client.NoWait())
		if err != nil {
			return err
		}
		for _, step := range []func(context.Context) error{} { // the work
			if err := errors.Join(lock.Err(), step(ctx)); err != nil { // stop when the lock may be lost
				return err
			}
		}
		return lock.Unlock(ctx)
	}
	_ = once
}
