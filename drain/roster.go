package drain

import (
	"fmt"
	"sync"

	"github.com/quiescehq/quiesce/fsm"
)

// roster lists the instances that reported connections. It is read from the state when somebody asks and something has changed.
type roster struct {
	log     Log
	changed <-chan struct{}

	mu   sync.Mutex
	read bool
	list []fsm.Instance
}

// claim is what instances say of a connection.
type claim struct {
	instance, name string
	doom           string // why its transactions are to end; empty while it may have them
	reportedAt     uint64 // cluster time
	endedAt        uint64 // 0 for one that lives
}

func (r *roster) instances() []fsm.Instance {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.changed:
		r.read = false
	default:
	}
	if r.read {
		return r.list
	}
	var list []fsm.Instance
	r.log.View(func(s *fsm.State) {
		s.Instances("", func(v fsm.Instance) bool {
			if len(v.Connections) > 0 && v.State != fsm.InstanceLeft {
				list = append(list, v)
			}
			return true
		})
	})
	r.read, r.list = true, list
	return list
}

// claims looks connections of a source up. A living instance's claim is worth more than any other: a process that registered anew reports
// the connections that its lost incarnation had.
func (r *roster) claims(source string, threads map[uint64]bool, now uint64) map[uint64]claim {
	found := map[uint64]claim{}
	for _, v := range r.instances() {
		for _, reported := range v.Connections {
			if reported.Source != source {
				continue
			}
			c := claim{instance: v.ID, name: v.Name, doom: doom(v, now), reportedAt: reported.At, endedAt: v.EndedAt}
			for _, id := range reported.IDs {
				if had, twice := found[id]; threads[id] && (!twice || c.beats(had)) {
					found[id] = c
				}
			}
		}
	}
	return found
}

func (c claim) beats(other claim) bool {
	if (c.doom == "") != (other.doom == "") {
		return c.doom == ""
	}
	return c.reportedAt > other.reportedAt
}

// doom tells why an instance's transactions are to end.
func doom(v fsm.Instance, now uint64) string {
	switch {
	case v.State == fsm.InstanceLost || v.State == fsm.InstanceForced:
		return fmt.Sprintf("its instance %s is %s", v.Name, v.State)
	case v.TransactionsOverdue(now):
		return fmt.Sprintf("its instance %s drains and is past the deadline of its transactions", v.Name)
	}
	return ""
}

// forget makes the next look read the state, whatever was signalled.
func (r *roster) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.read = false
}
