package client

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"

	"github.com/quiescehq/quiesce/api"
)

// run sends what waits, one request at a time, until the instance ends.
func (s *Sync) run() {
	ctx := s.app.life
	for attempt := 1; ; {
		rows, versions := s.batch()
		if len(rows) == 0 {
			select {
			case <-s.wake:
			case <-ctx.Done():
				return
			}
			continue
		}
		if s.send(ctx, rows, versions) {
			attempt = 1
			continue
		}
		if pause(ctx, backoff(attempt)) != nil {
			return
		}
		attempt++
	}
}

// batch gives the rows that have waited longest, and drops from the order what is over.
func (s *Sync) batch() (rows []*dirtyRow, versions []uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.order = slices.DeleteFunc(s.order, func(r *dirtyRow) bool { return r.over })
	bytes := 0
	for _, r := range s.order[:min(len(s.order), api.EventsMax)] {
		if bytes += len(r.id); bytes > batchBytesMax {
			break
		}
		rows, versions = append(rows, r), append(versions, r.version)
	}
	return rows, versions
}

func eventsOf(rows []*dirtyRow) []api.RowEvent {
	events := make([]api.RowEvent, len(rows))
	for i, r := range rows {
		events[i] = r.event
	}
	return events
}

// send answers true if the rows are settled, one way or the other. Events are accepted all or none; of those that are refused together, each
// half stands for itself.
func (s *Sync) send(ctx context.Context, rows []*dirtyRow, versions []uint64) bool {
	s.invalidate(ctx, rows)
	request := post("/v1/outbox/events", api.EnqueueEvents{Events: eventsOf(rows)}, nil)
	request.retryFor = patience
	_, err := s.app.client.do(ctx, request)
	switch {
	case err == nil:
		s.saidOver(rows, versions, false)
		return true
	case !saysInvalid(err):
		s.saidNothing(rows)
		s.app.log.Warn("events are kept: the coordinator does not take them now", "count", len(rows), "error", err)
		return false
	case len(rows) == 1:
		s.app.log.Error("an event is refused, and dropped", "event", rows[0].id, "error", err)
		s.app.leftovers.note(fmt.Sprintf("sync: refused %s: %v", rows[0].id, err))
		s.saidOver(rows, versions, true)
		return true
	}
	half := len(rows) / 2
	first := s.send(ctx, rows[:half], versions[:half])
	return s.send(ctx, rows[half:], versions[half:]) && first
}

// invalidate removes the keys of rows from the cache. What cannot be is tried again with the next request, and so are those of a row that was
// committed again meanwhile.
func (s *Sync) invalidate(ctx context.Context, rows []*dirtyRow) {
	keys, versions := s.uncleared(rows)
	if s.cache == nil || len(keys) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, invalidateFor)
	defer cancel()
	if err := s.cache.Invalidate(ctx, keys...); err != nil {
		s.app.log.Warn("keys could not be invalidated", "keys", len(keys), "error", err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, r := range rows {
		r.cleared = r.cleared || r.version == versions[i]
	}
}

func (s *Sync) uncleared(rows []*dirtyRow) (keys []string, versions []uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range rows {
		versions = append(versions, r.version)
		if !r.cleared {
			keys = append(keys, r.keys...)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys), versions
}

// flush is the phase flush: it waits until nothing is left. All that waits is reported from now on, for the process may be killed in it.
func (s *Sync) flush(ctx context.Context) (int, error) {
	s.mu.Lock()
	s.leaving = true
	for _, r := range s.order {
		if !r.over {
			s.reportLocked(r)
		}
	}
	s.mu.Unlock()
	for {
		left := s.Waiting()
		if left == 0 {
			return int(s.Refused()), nil
		}
		select {
		case <-s.accepted:
		case <-ctx.Done():
			return left, nil
		}
	}
}

// stay takes flush back: the drain was undone.
func (s *Sync) stay(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving = false
	gone := map[string]api.RowEvent{}
	for _, r := range s.rows {
		gone[r.id] = r.event
	}
	s.app.leftovers.remove(gone)
	return nil
}

// encodeKey is encodePK of key columns that may be NULL.
func encodeKey(key any) ([]json.RawMessage, error) {
	v := reflect.ValueOf(key)
	if v.Kind() != reflect.Slice || v.Type().Elem().Kind() != reflect.Interface {
		return encodePK(key)
	}
	if v.Len() == 0 || v.Len() > api.PKPartsMax {
		return nil, fmt.Errorf("%w: it has %d parts", ErrPK, v.Len())
	}
	parts := make([]json.RawMessage, v.Len())
	for i := range parts {
		part := v.Index(i)
		if part.IsNil() {
			parts[i] = json.RawMessage("null")
			continue
		}
		var err error
		if parts[i], err = encodePart(part.Elem()); err != nil {
			return nil, err
		}
	}
	return parts, nil
}

func mergeKeys(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}
