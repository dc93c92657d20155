package client

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"time"

	"github.com/quiescehq/quiesce/api"
)

var (
	// ErrPreparedLost says that the coordinator took the transaction for lost, because its time had passed before its fence was written: roll back,
	// and begin again with another Prepare.
	ErrPreparedLost = errors.New("client: the coordinator took this transaction for lost")
	// ErrCommitUnknown says that a commit was not confirmed: all of the transaction was applied, or nothing. The cache is brought to what the table
	// holds in both cases.
	ErrCommitUnknown = errors.New("client: the commit was not confirmed")
)

const (
	// endFor bounds the telling of how a transaction ended. What cannot be told is found out by the coordinator.
	endFor = 3 * time.Second
	// errDuplicate is the server's number for a key that is there already.
	errDuplicate = 1062
)

var fenceTable = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,63}$`)

// Prepared are events that were announced before their transaction began. Whatever becomes of the process, the coordinator delivers them once the
// transaction is over: because Submit said so, or because it found that out from the fence.
type Prepared struct {
	client *Client
	id     string
	fence  api.Fence
}

// PrepareTTL changes how long a transaction has, before the coordinator looks after it: 30 s by default, between 1 s and an hour. One that is
// still open then is waited for; one that has not written its fence yet cannot commit any more.
func PrepareTTL(d time.Duration) TxOption { return func(t *txOptions) { t.prepareTTL = d } }

// Prepare announces the events of a transaction that is about to begin. All are of one source. The transaction's first statement is Fence; after it
// Submit, or Cancel if it was rolled back. See [App.InTx], which does all of that.
func (a *App) Prepare(ctx context.Context, changes []Change, opts ...TxOption) (*Prepared, error) {
	return a.client.prepare(ctx, a.member.registered(), changes, opts)
}

// Prepare announces the events of a transaction that is about to begin. See [App.Prepare].
func (c *Client) Prepare(ctx context.Context, changes []Change, opts ...TxOption) (*Prepared, error) {
	return c.prepare(ctx, "", changes, opts)
}

func (c *Client) prepare(ctx context.Context, instance string, changes []Change, opts []TxOption) (*Prepared, error) {
	var o txOptions
	for _, opt := range opts {
		opt(&o)
	}
	rows, err := dirtyRows(changes)
	if err == nil && len(rows) > api.EventsMax {
		err = fmt.Errorf("%w: %d events in a transaction, and at most %d", ErrChange, len(rows), api.EventsMax)
	}
	if err != nil {
		return nil, err
	}
	var answer api.Prepared
	request := api.PrepareEvents{Events: eventsOf(rows), TTLMs: millis(o.prepareTTL), Instance: instance}
	if _, err := c.do(ctx, post("/v1/outbox/prepare", request, &answer)); err != nil {
		return nil, fmt.Errorf("prepare %d events: %w", len(rows), err)
	}
	if !fenceTable.MatchString(answer.Fence.Table) || answer.ID == "" || answer.Fence.ID == "" {
		return nil, fmt.Errorf("client: the answer to a prepare names no fence: %+v", answer)
	}
	return &Prepared{client: c, id: answer.ID, fence: answer.Fence}, nil
}

// ID is how the coordinator calls these events.
func (p *Prepared) ID() string { return p.id }

// Source is the source that the transaction must be of.
func (p *Prepared) Source() string { return p.fence.Source }

// Fence is the first statement of the transaction. After ErrPreparedLost, and any other error, roll back.
func (p *Prepared) Fence(ctx context.Context, tx Execer) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO "+p.fence.Table+" (id) VALUES (?)", p.fence.ID)
	switch {
	case err == nil:
		return nil
	case isDuplicate(err):
		return fmt.Errorf("%w: %s: %w", ErrPreparedLost, p.id, err)
	}
	return fmt.Errorf("fence %s: %w", p.id, err)
}

// Submit says that the transaction was committed. It is never refused; no tokens say that the coordinator had found that out before.
func (p *Prepared) Submit(ctx context.Context) ([]EventToken, error) { return p.end(ctx, "submit") }

// Cancel says that the transaction was rolled back, or never begun: it must be certain that it cannot commit any more.
func (p *Prepared) Cancel(ctx context.Context) error {
	_, err := p.end(ctx, "cancel")
	return err
}

func (p *Prepared) end(ctx context.Context, how string) ([]EventToken, error) {
	var answer api.PreparedEnd
	if _, err := p.client.do(ctx, post("/v1/outbox/prepared/"+p.id+"/"+how, nil, &answer)); err != nil {
		return nil, fmt.Errorf("%s %s: %w", how, p.id, err)
	}
	return answer.Events, nil
}

// isDuplicate looks for the server's number in an error of a driver that this package does not know: a struct with a field Number.
func isDuplicate(err error) bool {
	for ; err != nil; err = errors.Unwrap(err) {
		v := reflect.ValueOf(err)
		if v.Kind() == reflect.Pointer {
			v = v.Elem()
		}
		if v.Kind() != reflect.Struct {
			continue
		}
		if n := v.FieldByName("Number"); n.IsValid() && n.CanUint() && n.Uint() == errDuplicate {
			return true
		}
	}
	return false
}

// registered is the id of the instance, or nothing.
func (m *member) registered() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lease == nil || m.fenced {
		return ""
	}
	return m.id
}

// notThere tells whether the coordinator does not know the instance (any more): then it is left out.
func notThere(err error) bool {
	refused := (*Error)(nil)
	return errors.As(err, &refused) && (refused.Code == api.CodeInstanceNotFound || refused.Code == api.CodeInstanceState)
}
