package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/quiescehq/quiesce/api"
)

// ErrLeftoversFull says that an instance has as many identified leftovers as it can report.
var ErrLeftoversFull = errors.New("client: too many leftovers")

// leftovers is the unfinished work that is reported while the instance stops.
type leftovers struct {
	mu      sync.Mutex
	keys    map[string]api.RowEvent
	notes   []string
	version uint64 // of the two above
	told    uint64 // version that the coordinator has
}

// Leftover says that the cached forms of rows may be stale and that this process has not seen to it (yet): such as a write to the cache or
// an event that failed. While the instance stops, the coordinator is told: if it is lost or forced, the leader makes events of them. Take
// back with Settled what has been done. What is left at the end makes the exit code ExitLeftovers.
//
// pks are as in Enqueue. At most 1,000 rows are kept; ErrLeftoversFull says that none of these were added.
func (a *App) Leftover(mapping string, pks ...any) error {
	events, err := rowEvents(mapping, pks)
	if err != nil {
		return err
	}
	return a.leftovers.add(events)
}

// Settled takes rows back that were left over.
func (a *App) Settled(mapping string, pks ...any) error {
	events, err := rowEvents(mapping, pks)
	if err != nil {
		return err
	}
	a.leftovers.remove(events)
	return nil
}

func rowEvents(mapping string, pks []any) (map[string]api.RowEvent, error) {
	events := make(map[string]api.RowEvent, len(pks))
	for _, pk := range pks {
		parts, err := encodePK(pk)
		if err != nil {
			return nil, err
		}
		key, err := json.Marshal(parts)
		if err != nil || len(key) > api.PKBytesMax {
			return nil, fmt.Errorf("%w of at most %d bytes", ErrPK, api.PKBytesMax)
		}
		events[mapping+" "+string(key)] = api.RowEvent{Mapping: mapping, PK: parts}
	}
	return events, nil
}

func (l *leftovers) add(events map[string]api.RowEvent) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	fresh := 0
	for key := range events {
		if _, known := l.keys[key]; !known {
			fresh++
		}
	}
	switch {
	case len(l.keys)+fresh > api.LeftoversMax:
		return fmt.Errorf("%w: %d are noted, and %d at most", ErrLeftoversFull, len(l.keys), api.LeftoversMax)
	case fresh == 0:
		return nil
	case l.keys == nil:
		l.keys = map[string]api.RowEvent{}
	}
	maps.Copy(l.keys, events)
	l.version++
	return nil
}

func (l *leftovers) remove(events map[string]api.RowEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := len(l.keys)
	for key := range events {
		delete(l.keys, key)
	}
	if len(l.keys) != before {
		l.version++
	}
}

// note adds a word for people. Those above 16 stand in the log only.
func (l *leftovers) note(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.notes) < api.NotesMax {
		l.notes = append(l.notes, cut(text, api.ReasonBytesMax))
		l.version++
	}
}

// cut shortens text to so many bytes, and to whole characters.
func cut(text string, bytesMax int) string {
	if len(text) > bytesMax {
		text = text[:bytesMax]
	}
	return strings.ToValidUTF8(text, "")
}

// unreported is what the coordinator does not have yet, and its version, or nil.
func (l *leftovers) unreported() (*api.Leftovers, uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.version == l.told {
		return nil, l.version
	}
	all := &api.Leftovers{Notes: slices.Clone(l.notes)}
	for _, key := range slices.Sorted(maps.Keys(l.keys)) {
		all.Keys = append(all.Keys, l.keys[key])
	}
	return all, l.version
}

func (l *leftovers) reported(version uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told = max(l.told, version)
}

// renew is for the drain after one that was undone: its first report says everything.
func (l *leftovers) renew() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.notes, l.told = nil, 0
	l.version++
}

func (l *leftovers) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.keys)
}
