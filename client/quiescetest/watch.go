package quiescetest

import (
	"sync"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/httpapi"
)

type topic struct{ table, key string }

// watches is the set of open watches by what they look at, with the same promise as the real one: a change wakes those of its row and those
// of its table, and several changes may be one wake-up.
type watches struct {
	mu  sync.Mutex
	set map[topic]map[*watch]struct{}
}

type watch struct {
	c     chan struct{}
	topic topic
	set   *watches
}

func (w *watch) Wake() <-chan struct{} { return w.c }

func (w *watch) Close() {
	w.set.mu.Lock()
	defer w.set.mu.Unlock()
	delete(w.set.set[w.topic], w)
	if len(w.set.set[w.topic]) == 0 {
		delete(w.set.set, w.topic)
	}
}

func newWatches() *watches { return &watches{set: map[topic]map[*watch]struct{}{}} }

func (ws *watches) add(table, key string) httpapi.Watch {
	w := &watch{c: make(chan struct{}, 1), topic: topic{table, key}, set: ws}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.set[w.topic] == nil {
		ws.set[w.topic] = map[*watch]struct{}{}
	}
	ws.set[w.topic][w] = struct{}{}
	return w
}

func (ws *watches) wake(changes []fsm.Change) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, c := range changes {
		ws.wakeLocked(topic{table: c.Table})
		ws.wakeLocked(topic{table: c.Table, key: c.Key})
	}
}

func (ws *watches) wakeLocked(t topic) {
	for w := range ws.set[t] {
		select {
		case w.c <- struct{}{}:
		default: // one wake-up is waiting already
		}
	}
}
