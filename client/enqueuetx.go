package client

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/quiescehq/quiesce/api"
)

const (
	// txEventsMax bounds one EnqueueTx.
	txEventsMax = 10_000
	// txRowsMax bounds one of its statements, below the arguments and the packet that a server takes.
	txRowsMax = 500

	outboxInsert = "INSERT INTO quiesce_outbox (mapping, pk, old_key, new_key) VALUES "
)

// Execer is what runs a statement in a transaction: a sql.Tx, or a sql.Conn in the middle of one.
type Execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// EnqueueTx writes events into the outbox table of the transaction's own database: they exist if the transaction commits, and only then. No
// coordinator is on the way. Its relay finds them within 50 ms, or sooner when it is nudged, which a transaction of an [App.OpenDB] does by
// itself when it has committed. For others call committed after the commit, which never waits and may be left out; source is the name that the
// coordinator has for the server.
//
// Its rows are new, so that no other transaction waits for them. CacheKeys are of no use here: invalidate them after the commit.
func (c *Client) EnqueueTx(ctx context.Context, tx Execer, source string, changes ...Change) (committed func(), err error) {
	if source != "" && !sourceName.MatchString(source) {
		return nil, fmt.Errorf("%w: source %q", ErrConfig, source)
	}
	if len(changes) > txEventsMax {
		return nil, fmt.Errorf("%w: %d events in a transaction, and at most %d", ErrChange, len(changes), txEventsMax)
	}
	rows, err := dirtyRows(changes)
	if err != nil {
		return nil, err
	}
	once := sync.OnceFunc(func() { c.nudges.nudge(source) })
	ctx = context.WithValue(ctx, commitKey{}, func(watched string) {
		if watched != "" {
			c.nudges.nudge(watched)
		}
	})
	for len(rows) > 0 {
		n := min(len(rows), txRowsMax)
		statement, args := outboxRows(rows[:n])
		if _, err := tx.ExecContext(ctx, statement, args...); err != nil {
			return nil, fmt.Errorf("enqueue %d events in a transaction: %w", len(rows), err)
		}
		rows = rows[n:]
	}
	return once, nil
}

// EnqueueTx writes events into the outbox table in a transaction. See [Client.EnqueueTx].
func (a *App) EnqueueTx(ctx context.Context, tx Execer, source string, changes ...Change) (committed func(), err error) {
	return a.client.EnqueueTx(ctx, tx, source, changes...)
}

func outboxRows(rows []*dirtyRow) (statement string, args []any) {
	for _, r := range rows {
		args = append(args, r.event.Mapping, keyColumn(r.event.PK), keyColumn(r.event.OldKey), keyColumn(r.event.NewKey))
	}
	return outboxInsert + strings.TrimSuffix(strings.Repeat("(?,?,?,?),", len(rows)), ","), args
}

// keyColumn is a key as a JSON array, or NULL.
func keyColumn(key []json.RawMessage) any {
	if key == nil {
		return nil
	}
	text, err := json.Marshal(key)
	if err != nil {
		panic(err) // the parts were made by json.Marshal
	}
	return string(text)
}

// commitKey marks the contexts of statements whose transaction has something to tell when it has committed: the value is a func(source string).
type commitKey struct{}

// nudger tells relays that there are rows. One call of a source is on its way at a time, and one more waits for all who come meanwhile. What
// fails is not tried again: the relay looks by itself.
type nudger struct {
	client *Client

	mu      sync.Mutex
	closed  bool
	sources map[string]*nudges
}

type nudges struct{ running, again bool }

// nudgeSourcesMax bounds the sources of one process.
const nudgeSourcesMax = 100

func (n *nudger) nudge(source string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	at := n.sources[source]
	if at == nil {
		if len(n.sources) >= nudgeSourcesMax || source == "" {
			return
		}
		at = &nudges{}
		n.sources[source] = at
	}
	switch {
	case n.closed:
	case at.running:
		at.again = true
	default:
		at.running = true
		n.client.joined.Go(func() { n.run(source, at) })
	}
}

func (n *nudger) run(source string, at *nudges) {
	for {
		_, err := n.client.do(n.client.life, call{method: "POST", path: "/v1/outbox/nudge", body: api.Nudge{Source: source}, timeout: patience, retryFor: 1})
		if err != nil {
			n.client.log.Debug("a relay could not be nudged", "source", source, "error", err)
		}
		n.mu.Lock()
		at.running = at.again && !n.closed
		at.again = false
		more := at.running
		n.mu.Unlock()
		if !more {
			return
		}
	}
}

// close refuses later calls, so that Client.Close can wait for the goroutines.
func (n *nudger) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
}
