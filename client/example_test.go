package client_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
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

// What an application has to do as it stops, beside answering requests.
func ExampleApp_On() {
	register := func(app *client.App, queue interface {
		Read(context.Context) error
	}, cron interface {
		Start()
		Stop()
	}, db *sql.DB) error {
		return errors.Join(
			app.Go("queue", queue.Read, client.Essential()),
			app.On(client.PhaseConsumers, "cron",
				func(context.Context) error { cron.Stop(); return nil },
				client.Undo(func(context.Context) error { cron.Start(); return nil })),
			app.On(client.PhaseClose, "database",
				func(context.Context) error { return db.Close() },
				client.After(client.TaskServers)),
		)
	}
	_ = register
}

// Server-sent events that end when the instance stops, so that the client asks another one.
func ExampleApp_Stream() {
	events := func(app *client.App, news <-chan string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			ctx := app.Stream(w, r)
			for {
				select {
				case text := <-news:
					_, _ = fmt.Fprintf(w, "data: %s\n\n", text)
				case <-ctx.Done():
					_, _ = fmt.Fprint(w, "event: goodbye\ndata:\n\n")
					return
				}
				_ = http.NewResponseController(w).Flush()
			}
		}
	}
	_ = events
}

// A WebSocket, by whatever library, that is told to go away.
func ExampleApp_Hijacked() {
	serve := func(app *client.App, conn interface {
		Close() error
		CloseWith(code int, reason string)
		Listen() error
	}) error {
		forget := app.Hijacked(conn, func(context.Context) { conn.CloseWith(1001, "going away") })
		defer forget()
		return conn.Listen()
	}
	_ = serve
}

// Rows whose cache keys could not be removed: if this process does not live to do it, the cluster does.
func ExampleApp_Leftover() {
	change := func(ctx context.Context, app *client.App, id int64, remove func(context.Context) error) error {
		if err := app.Leftover("orders", id); err != nil {
			return err
		}
		if err := remove(ctx); err != nil {
			return err // it stays noted
		}
		return app.Settled("orders", id)
	}
	_ = change
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

// Work that ends when its lock can no longer be relied on, or is asked for by an operator.
func ExampleLock_Context() {
	work := func(ctx context.Context, session *client.Session, step func(context.Context) (more bool, err error)) error {
		lock, err := session.Lock(ctx, "reindex")
		if err != nil {
			return err
		}
		defer lock.Unlock(context.WithoutCancel(ctx))
		ctx = lock.Context(ctx)
		for more := true; more; {
			select {
			case <-lock.Revoked():
				return errors.New("asked to stop: " + lock.Revocation().Reason)
			default:
			}
			if more, err = step(ctx); err != nil {
				return errors.Join(err, context.Cause(ctx)) // such as client.ErrLockLost
			}
		}
		return nil
	}
	_ = work
}

// Many readers, or one writer who stays on as a reader.
func ExampleRWLock() {
	rebuild := func(ctx context.Context, session *client.Session, build, serve func(context.Context) error) error {
		lock, err := session.RWLock("index").Lock(ctx)
		if err != nil {
			return err
		}
		defer lock.Unlock(context.WithoutCancel(ctx))
		if err := build(lock.Context(ctx)); err != nil {
			return err
		}
		if err := lock.Downgrade(ctx); err != nil { // readers come in, no other writer does
			return err
		}
		return serve(lock.Context(ctx))
	}
	_ = rebuild
}

// No more than ten calls of all instances together.
func ExampleSemaphore() {
	call := func(ctx context.Context, app *client.App, do func(context.Context) error) error {
		permit, err := app.Semaphore("supplier-api", 10).Acquire(ctx, 1, client.WaitAtMost(time.Second))
		if err != nil {
			return err
		}
		defer permit.Unlock(context.WithoutCancel(ctx))
		return do(permit.Context(ctx))
	}
	_ = call
}

// Two accounts at once: whoever names them the other way round does not get into a deadlock with this.
func ExampleLocks() {
	transfer := func(ctx context.Context, session *client.Session, move func(ctx context.Context, from, to uint64) error) error {
		locks, err := session.LockMany(ctx, client.Exclusive("account/1", "account/2"))
		if err != nil {
			return err
		}
		defer locks.Unlock(context.WithoutCancel(ctx))
		return move(locks.Context(ctx), locks.Token("account/1"), locks.Token("account/2"))
	}
	_ = transfer
}

// A job that runs in one of many processes.
func ExampleElection() {
	lead := func(ctx context.Context, session *client.Session, address string, schedule func(ctx context.Context, token uint64) error) error {
		leadership, err := session.Election("scheduler").Campaign(ctx, address)
		if err != nil {
			return err
		}
		defer leadership.Resign(context.WithoutCancel(ctx))
		return schedule(leadership.Context(ctx), leadership.Token())
	}
	_ = lead
}

// Everybody else, who wants to know where the leader is.
func ExampleClient_Observe() {
	follow := func(ctx context.Context, c *client.Client, use func(address string)) error {
		for leader, err := range c.Observe(ctx, "scheduler") {
			if err != nil {
				return err
			}
			use(leader.Value) // empty while nobody leads
		}
		return nil
	}
	_ = follow
}

// A wait that would never end by itself.
func ExampleFailOnDeadlock() {
	take := func(ctx context.Context, session *client.Session) error {
		_, err := session.Lock(ctx, "b", client.Owner("job-7"), client.FailOnDeadlock())
		var circle *client.DeadlockError
		if errors.As(err, &circle) {
			return errors.New("give up what this job holds, and begin again: " + circle.Error())
		}
		return err
	}
	_ = take
}

// Rows that change together with their events, whatever becomes of the process or of the coordinator.
func ExampleClient_EnqueueTx() {
	pay := func(ctx context.Context, app *client.App, db *client.DB, id int64) error {
		return db.Tx(ctx, func(tx *sql.Tx) error {
			if _, err := tx.ExecContext(ctx, "UPDATE orders SET paid = 1 WHERE id = ?", id); err != nil {
				return err
			}
			_, err := app.EnqueueTx(ctx, tx, "main", client.Change{Mapping: "orders", PK: id})
			return err
		})
	}
	_ = pay
}

// The same without a row in an outbox table: the coordinator knows of the events before the transaction begins.
func ExampleApp_InTx() {
	pay := func(ctx context.Context, app *client.App, db *client.DB, id int64) error {
		_, err := app.InTx(ctx, db, []client.Change{{Mapping: "orders", PK: id}}, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, "UPDATE orders SET paid = 1 WHERE id = ?", id)
			return err
		})
		return err
	}
	_ = pay
}
