package fsm

import "slices"

// StoreKind tells sources from targets.
type StoreKind string

const (
	StoreSource StoreKind = "source"
	StoreTarget StoreKind = "target"
)

// Store is what the leader knows of a store: who it was when it was last seen. Another identity is a restart or a failover, in which
// acknowledged writes may have been lost.
type Store struct {
	Kind     StoreKind `cbor:"1,keyasint"`
	Name     string    `cbor:"2,keyasint"`
	Identity string    `cbor:"3,keyasint"`
	Since    uint64    `cbor:"4,keyasint"` // cluster time
	Index    uint64    `cbor:"5,keyasint"`
}

// Doubt says of a mapping that its cache may hold what nobody can vouch for, until a pass was clean.
type Doubt struct {
	Mapping string `cbor:"1,keyasint"`
	Cause   string `cbor:"2,keyasint"`
	Since   uint64 `cbor:"3,keyasint"`           // cluster time
	Pass    uint64 `cbor:"4,keyasint,omitempty"` // the pass that is to end it
	Index   uint64 `cbor:"5,keyasint"`
}

func storeKey(kind StoreKind, name string) string { return string(kind) + "\x00" + name }

// ObserveStore records who a store is. With a cause, all mappings of the store are in doubt from now on. Without one,
// the leader has enqueued in the same entry every row whose last write may be lost.
type ObserveStore struct {
	Kind     StoreKind `cbor:"1,keyasint"`
	Name     string    `cbor:"2,keyasint"`
	Before   string    `cbor:"3,keyasint,omitempty"` // identity that the observer knew; another one leaves everything as it is
	Identity string    `cbor:"4,keyasint"`
	Cause    string    `cbor:"5,keyasint,omitempty"`
}

func (ObserveStore) kind() Kind { return kindObserveStore }

func (c ObserveStore) apply(s *State) Result {
	if c.Kind != StoreSource && c.Kind != StoreTarget || c.Name == "" || len(c.Name) > NameBytesMax || len(c.Identity) > SpecBytesMax || len(c.Cause) > ErrorBytesMax {
		return refuse(CodeInvalid, "store, identity or cause out of bounds")
	}
	key := storeKey(c.Kind, c.Name)
	old, known := s.stores.get(key)
	switch {
	case old.Identity != c.Before:
		return refuse(CodeVersionMismatch, "somebody else saw the store since")
	case !known && s.stores.len() >= StoresMax:
		return refuse(CodeStoresFull, "the cluster knows as many stores as it may")
	case old.Identity == c.Identity && known && c.Cause == "":
		return Result{}
	}
	s.stores.set(key, Store{Kind: c.Kind, Name: c.Name, Identity: c.Identity, Since: s.counters.Now, Index: s.nextRevision()})
	if c.Cause == "" {
		return Result{}
	}
	var struck []string
	s.mappings.ascend("", func(name string, m Mapping) bool {
		if c.Kind == StoreTarget && m.Target == c.Name || c.Kind == StoreSource && m.Source == c.Name {
			struck = append(struck, name)
		}
		return true
	})
	for _, name := range struck {
		s.doubts.set(name, Doubt{Mapping: name, Cause: c.Cause, Since: s.counters.Now, Index: s.nextRevision()})
	}
	return Result{}
}

// settleDoubt ends the doubt about a mapping with the pass that was to look at all of it since.
func (s *State) settleDoubt(p Pass) {
	d, ok := s.doubts.get(p.Mapping)
	if ok && p.State == PassDone && d.Pass == p.ID && p.vouches() {
		s.doubts.delete(p.Mapping)
	}
}

// vouches: the pass left out no row, and has given each difference that it found a new event.
func (p Pass) vouches() bool {
	return p.whole() && (p.Mode != PassDryRun || p.Counts.Differences()+p.Keys.Extra == 0)
}

// DoubtOf gives the doubt about a mapping.
func (s *State) DoubtOf(mapping string) (Doubt, bool) { return s.doubts.get(mapping) }

// Doubts visits the mappings in doubt.
func (s *State) Doubts(visit func(Doubt) bool) {
	s.doubts.ascend("", func(_ string, d Doubt) bool { return visit(d) })
}

// Store gives what is known of a store.
func (s *State) Store(kind StoreKind, name string) (Store, bool) {
	return s.stores.get(storeKey(kind, name))
}

// StoresOf lists the stores that mappings name, in order.
func (s *State) StoresOf(kind StoreKind) []string {
	var names []string
	s.mappings.ascend("", func(_ string, m Mapping) bool {
		name := m.Target
		if kind == StoreSource {
			name = m.Source
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
		return true
	})
	slices.Sort(names)
	return names
}
