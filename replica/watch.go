package replica

import (
	"sync"

	"github.com/quiescehq/quiesce/fsm"
)

// Watch wakes its owner after changes. Several changes may be one wake-up; the owner looks at the state to see what is new.
type Watch struct {
	C <-chan struct{}

	c     chan struct{}
	topic topic
	set   *watches
}

type topic struct{ table, key string }

// Close ends the watch. C is not closed: nothing more comes.
func (w *Watch) Close() { w.set.remove(w) }

// watches is the set of open watches, by what they look at: a change wakes those of its row and those of its table, and no others.
type watches struct {
	mu  sync.Mutex
	set map[topic]map[*Watch]struct{}
}

func (ws *watches) add(table, key string) *Watch {
	c := make(chan struct{}, 1)
	w := &Watch{C: c, c: c, topic: topic{table, key}, set: ws}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.set == nil {
		ws.set = make(map[topic]map[*Watch]struct{})
	}
	if ws.set[w.topic] == nil {
		ws.set[w.topic] = make(map[*Watch]struct{})
	}
	ws.set[w.topic][w] = struct{}{}
	return w
}

func (ws *watches) remove(w *Watch) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	delete(ws.set[w.topic], w)
	if len(ws.set[w.topic]) == 0 {
		delete(ws.set, w.topic)
	}
}

func (ws *watches) wake(changes []fsm.Change) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if len(ws.set) == 0 {
		return
	}
	for _, c := range changes {
		ws.wakeLocked(topic{table: c.Table})
		ws.wakeLocked(topic{table: c.Table, key: c.Key})
	}
}

func (ws *watches) wakeAll() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for t := range ws.set {
		ws.wakeLocked(t)
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
