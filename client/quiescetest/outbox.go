package quiescetest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

// Source is the name of the only source: mappings that PutMapping declares are of it, and it has a relay that only notes its nudges.
const Source = "main"

// relays is the httpapi.Relays behind the edge.
type relays struct {
	mu     sync.Mutex
	nudges int
}

// Relays implements httpapi.Relays.
func (r *relays) Relays() []api.Relay { return []api.Relay{{Source: Source, State: "running"}} }

// Serves implements httpapi.Relays: there is one for every source.
func (r *relays) Serves(string) bool { return true }

// Nudge implements httpapi.Relays.
func (r *relays) Nudge(source string) bool {
	if source != Source {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.nudges++
	return true
}

// Nudges is how often the relay of Source was nudged.
func (c *Coordinator) Nudges() int {
	c.relays.mu.Lock()
	defer c.relays.mu.Unlock()
	return c.relays.nudges
}

// Deliver settles what is pending of a row, as if it had reached the cache. The key's parts are as in Enqueue, as text.
func (c *Coordinator) Deliver(mapping string, key ...string) error {
	pk, err := json.Marshal(key)
	if err != nil {
		return fmt.Errorf("quiescetest: %w", err)
	}
	row := fsm.RowRef{Mapping: mapping, PK: string(pk)}
	var settled fsm.Settlement
	c.node.View(func(s *fsm.State) {
		m, _ := s.Mapping(mapping)
		e, _ := s.Event(row)
		settled = fsm.Settlement{Row: row, Revision: m.Revision, Token: e.Token}
	})
	if settled.Token == 0 {
		return fmt.Errorf("quiescetest: nothing of %s %s is pending", mapping, pk)
	}
	return c.propose(fsm.SettleEvents{Events: []fsm.Settlement{settled}})
}

// Prepared lists the prepared events that are open, the oldest first.
func (c *Coordinator) Prepared() []api.PreparedEvents {
	var found api.PreparedList
	if err := c.Call(http.MethodGet, "/v1/outbox/prepared?consistency=stale", nil, &found); err != nil {
		return nil
	}
	return slices.Clone(found.Prepared)
}
