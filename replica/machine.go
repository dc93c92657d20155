package replica

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/quiescehq/quiesce/fsm"
)

// machine is the raft.FSM: it guards the state and tells watchers what changed.
type machine struct {
	mu      sync.RWMutex
	state   *fsm.State
	applied uint64 // raft index of the last applied entry

	decoded  decodedEntries
	watches  watches
	onChange func([]fsm.Change) // called with mu held for writing; must be short
	fatal    func(error)

	restores     int    // states that raft put in the place of another since the start
	installs     int    // restores of the same snapshot in a row
	installIndex uint64 // that snapshot
	onLoop       func()
}

// decodedEntries are the entries that this leader has proposed and read back already, by the place of their bytes in memory: raft hands a
// leader's own entry to Apply as it was given, and need not be made to have it decoded twice. Other bytes are never there. Each is kept
// until its future is answered: the slots of the proposer bound them.
type decodedEntries struct {
	mu      sync.Mutex
	entries map[*byte]fsm.Entry
}

func (d *decodedEntries) put(data []byte, e fsm.Entry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.entries == nil {
		d.entries = make(map[*byte]fsm.Entry)
	}
	d.entries[&data[0]] = e
}

func (d *decodedEntries) drop(data []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.entries, &data[0])
}

func (d *decodedEntries) of(data []byte) (fsm.Entry, error) {
	if len(data) > 0 {
		d.mu.Lock()
		e, ok := d.entries[&data[0]]
		d.mu.Unlock()
		if ok {
			return e, nil
		}
	}
	return fsm.DecodeEntry(data)
}

func newMachine(fatal func(error)) *machine {
	return &machine{state: fsm.New(), fatal: fatal, onChange: func([]fsm.Change) {}, onLoop: func() {}}
}

// view runs f under the read lock.
func (m *machine) view(f func(s *fsm.State, applied uint64)) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	f(m.state, m.applied)
}

func (m *machine) restored() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.restores
}

func (m *machine) onChanges(f func([]fsm.Change)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.onChange = f
}

// Apply implements raft.FSM. Its answer is the []fsm.Result of the entry.
func (m *machine) Apply(log *raft.Log) any {
	entry, err := m.decoded.of(log.Data)
	if err != nil {
		err = fmt.Errorf("%w: index %d: %w", ErrBadEntry, log.Index, err)
		m.fatal(err)
		panic(err) // replicas that applied it have moved on: going on would be a different state
	}
	m.mu.Lock()
	results, changes := m.state.Apply(log.Term, entry)
	m.applied = log.Index
	m.installs = 0
	m.onChange(changes)
	m.watches.wake(changes)
	m.mu.Unlock()
	return results
}

// Snapshot implements raft.FSM: constant time, as the state is copied on write.
func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &snapshot{state: m.state.Clone(), applied: m.applied}, nil
}

// Restore implements raft.FSM. The present state is kept until the new one is whole.
func (m *machine) Restore(r io.ReadCloser) error {
	defer func() { _ = r.Close() }()
	state, applied, err := readSnapshot(r)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.installs++; applied != m.installIndex {
		m.installs, m.installIndex = 1, applied
	}
	if m.installs > installsMax {
		m.onLoop()
		m.fatal(ErrInstallLoop)
		return ErrInstallLoop
	}
	m.state, m.applied = state, applied
	m.restores++
	m.onChange(nil)
	m.watches.wakeAll()
	return nil
}

// A snapshot is the raft index of the last applied entry, then the state.
type snapshot struct {
	state   *fsm.State
	applied uint64
}

func (s *snapshot) Persist(sink raft.SnapshotSink) error {
	if err := writeSnapshot(sink, s.state, s.applied); err != nil {
		_ = sink.Cancel()
		return fmt.Errorf("write snapshot: %w", err)
	}
	return sink.Close()
}

func (s *snapshot) Release() {}

func readSnapshot(r io.Reader) (*fsm.State, uint64, error) {
	var applied uint64
	if err := binary.Read(r, binary.BigEndian, &applied); err != nil {
		return nil, 0, fmt.Errorf("%w: %v", fsm.ErrDamagedSnapshot, err)
	}
	state, err := fsm.ReadSnapshot(r)
	return state, applied, err
}

// load takes a snapshot as the state to start from, before raft starts.
func (m *machine) load(r io.Reader) error {
	state, applied, err := readSnapshot(r)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state, m.applied = state, applied
	return nil
}
