package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/quiescehq/quiesce/api"
)

const (
	// dirtyMax bounds what a Sync keeps.
	dirtyMax = 100_000
	// batchBytesMax bounds one request below what a node reads.
	batchBytesMax = api.BodyBytesMax / 2
	// eventBytesMax is more than a key of the longest primary key and two others have.
	eventBytesMax = 8 << 10
	// patience is how long a request is tried before its rows count as dirty.
	patience = time.Second
	// invalidateFor bounds the removal of one batch from the cache: the event does the same, a little later.
	invalidateFor = time.Second
)

var (
	// ErrChange says that a Change names nothing, or something that cannot be a key.
	ErrChange = errors.New("client: not a change")
	// ErrKept says that an event was not accepted yet, but is kept and sent again until it is.
	ErrKept = errors.New("client: the event is kept and will be sent again")
	// ErrDirtyFull says that a Sync keeps as much as it can: what was committed is for the caller to remember, or for a reconciliation to find.
	ErrDirtyFull = errors.New("client: too many events wait for the coordinator")
)

// Change names a row that a commit has changed. Where the mapping's key columns are its primary key, PK says it, and OldKey too if the key
// itself was changed; else NewKey and OldKey, each where there is one. Keys are as in Enqueue; in a slice nil stands for NULL.
type Change struct {
	Mapping        string
	PK             any
	OldKey, NewKey any
	// CacheKeys are the keys of the row, for an Invalidator.
	CacheKeys []string
}

// Invalidator removes keys from the cache, in such a way that readers who read before do not bring them back: a redisquiesce.Cache.
type Invalidator interface {
	Invalidate(ctx context.Context, keys ...string) error
}

// Sync tells the coordinator what commits have changed, and does not forget what it could not tell. See [App.Sync].
type Sync struct {
	app   *App
	cache Invalidator // or nil
	wake  chan struct{}
	max   int // of rows

	mu       sync.Mutex
	rows     map[string]*dirtyRow
	order    []*dirtyRow // of rows, the longest waiting first; those that were accepted or came again are marked over
	version  uint64
	dirty    int    // of rows: were sent in vain
	refused  uint64 // dropped because the coordinator will never take them
	leaving  bool   // the phase flush has begun: what is dirty is reported
	accepted chan struct{}
}

// dirtyRow is an event that was not accepted yet.
type dirtyRow struct {
	id      string
	event   api.RowEvent
	keys    []string
	cleared bool   // keys are out of the cache
	failed  bool   // was sent in vain
	version uint64 // of the commit that came last
	over    bool
}

// Sync makes the instance's own Sync, with the cache whose keys it invalidates, or nil. It sends in the background until the instance ends. The
// phase flush waits until all was accepted; what is left then makes the exit code ExitLeftovers and is reported to the coordinator, if that can
// be reached, and to the log. Counted are sync_queue, what waits, and sync_dirty, what of that was sent in vain. One is enough for an instance.
func (a *App) Sync(cache Invalidator) *Sync {
	s := &Sync{app: a, cache: cache, wake: make(chan struct{}, 1), max: dirtyMax, rows: map[string]*dirtyRow{}, accepted: make(chan struct{}, 1)}
	a.Counter("sync_queue", func() uint64 { return uint64(s.Waiting()) })
	a.Counter("sync_dirty", func() uint64 { return uint64(s.Dirty()) })
	a.Flush("sync", s.flush, Undo(s.stay))
	a.joined.Go(s.run)
	return s
}

// Waiting is how many rows wait to be accepted.
func (s *Sync) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.rows)
}

// Dirty is how many of those were sent in vain.
func (s *Sync) Dirty() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dirty
}

// Refused is how many events the coordinator will never take, such as those of a mapping that nobody declared. Each is in the log.
func (s *Sync) Refused() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}

// Enqueue invalidates the keys of changes and waits until the coordinator has accepted the events; call it after the commit. Tokens come in the
// order of the changes. An error that is ErrKept says that this was not possible now: the events are sent again as by EnqueueLater. Other
// errors are final.
//
// A cache that cannot be reached is no error: what is accepted is brought to it.
func (s *Sync) Enqueue(ctx context.Context, changes ...Change) ([]EventToken, error) {
	rows, err := dirtyRows(changes)
	if err != nil {
		return nil, err
	}
	s.invalidate(ctx, rows)
	events := eventsOf(rows)
	tokens := make([]EventToken, 0, len(events))
	for done := 0; done < len(events); {
		n := min(len(events)-done, api.EventsMax)
		got, err := s.app.client.outbox.submit(ctx, events[done:done+n])
		switch {
		case err == nil:
			tokens, done = append(tokens, got...), done+n
			continue
		case saysInvalid(err):
			return tokens, fmt.Errorf("enqueue %d events: %w", len(events)-done, err)
		}
		if full := s.add(rows[done:], true); full != nil {
			return tokens, fmt.Errorf("enqueue %d events: %w: %w", len(events)-done, full, err)
		}
		return tokens, fmt.Errorf("enqueue %d events: %w: %w", len(events)-done, ErrKept, err)
	}
	return tokens, nil
}

// EnqueueLater sends events in the background, in full requests, one at a time, and again until they are accepted; call it after the commit. It
// never waits. Keys are invalidated first. Changes of one row that wait together are sent as one.
//
// An error says that nothing was taken: ErrChange and ErrPK for what names no row, ErrDirtyFull when 100,000 rows wait.
func (s *Sync) EnqueueLater(changes ...Change) error {
	rows, err := dirtyRows(changes)
	if err != nil {
		return err
	}
	return s.add(rows, false)
}

func dirtyRows(changes []Change) ([]*dirtyRow, error) {
	rows := make([]*dirtyRow, len(changes))
	for i, c := range changes {
		event, err := c.event()
		if err != nil {
			return nil, err
		}
		id, err := json.Marshal(event)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrChange, err)
		}
		if len(id) > eventBytesMax {
			return nil, fmt.Errorf("%w: its event has %d bytes, and %d at most", ErrChange, len(id), eventBytesMax)
		}
		rows[i] = &dirtyRow{id: string(id), event: event, keys: c.CacheKeys, cleared: len(c.CacheKeys) == 0}
	}
	return rows, nil
}

// event gives a change in the form of the API.
func (c Change) event() (api.RowEvent, error) {
	e := api.RowEvent{Mapping: c.Mapping}
	if c.Mapping == "" || c.PK == nil && c.OldKey == nil && c.NewKey == nil {
		return e, fmt.Errorf("%w: it needs a mapping and a key", ErrChange)
	}
	var err error
	if c.PK != nil {
		if e.PK, err = encodePK(c.PK); err != nil {
			return e, err
		}
	}
	if c.OldKey != nil {
		if e.OldKey, err = encodeKey(c.OldKey); err != nil {
			return e, err
		}
	}
	if c.NewKey != nil {
		if e.NewKey, err = encodeKey(c.NewKey); err != nil {
			return e, err
		}
	}
	return e, nil
}

func (s *Sync) add(rows []*dirtyRow, failed bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh := 0
	for _, r := range rows {
		if s.rows[r.id] == nil {
			fresh++
		}
	}
	if len(s.rows)+fresh > s.max {
		return fmt.Errorf("%w: %d rows", ErrDirtyFull, len(s.rows))
	}
	for _, r := range rows {
		s.addLocked(r, failed)
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return nil
}

// addLocked folds a row into one that waits already: that is not settled by a request that was on its way before.
func (s *Sync) addLocked(r *dirtyRow, failed bool) {
	s.version++
	if known := s.rows[r.id]; known != nil {
		known.version, known.keys = s.version, mergeKeys(known.keys, r.keys)
		known.cleared = known.cleared && len(known.keys) == 0
		return
	}
	r.version, r.failed = s.version, failed
	if failed {
		s.dirty++
	}
	s.rows[r.id] = r
	s.order = append(s.order, r)
	if s.leaving {
		s.reportLocked(r)
	}
}

// saidOver takes rows away that were accepted, or never will be. One that was committed again since stays, and is not dirty any more.
func (s *Sync) saidOver(rows []*dirtyRow, versions []uint64, refused bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gone := map[string]api.RowEvent{}
	for i, r := range rows {
		if r.failed {
			r.failed = false
			s.dirty--
		}
		if refused {
			s.refused++
		} else if r.version != versions[i] {
			continue
		}
		r.over = true
		delete(s.rows, r.id)
		gone[r.id] = r.event
	}
	s.app.leftovers.remove(gone)
	select {
	case s.accepted <- struct{}{}:
	default:
	}
}

// saidNothing marks rows as dirty.
func (s *Sync) saidNothing(rows []*dirtyRow) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range rows {
		if !r.failed && !r.over {
			r.failed = true
			s.dirty++
		}
	}
}

// reportLocked notes a row as left over; beyond what can be reported it is only counted.
func (s *Sync) reportLocked(r *dirtyRow) {
	_ = s.app.leftovers.add(map[string]api.RowEvent{r.id: r.event})
}

// Wait returns when an event is delivered: the cache holds what was committed then, or something newer. pk is as in Enqueue, or the key where the
// mapping's key columns are others. ErrEventDead says that it was given up, its key removed; it ends with ctx.
func (s *Sync) Wait(ctx context.Context, mapping string, pk any, token EventToken) error {
	return s.app.client.WaitEvent(ctx, mapping, pk, token)
}
