package fsm

import "bytes"

// Mapping is a declared rule from a MySQL row to a Redis key. The state keeps the specification as bytes: rendering is not done here.
type Mapping struct {
	Name     string `cbor:"1,keyasint"`
	Revision uint64 `cbor:"2,keyasint"` // from the token counter: grows with each change, also over delete and create
	Source   string `cbor:"3,keyasint"`
	Target   string `cbor:"4,keyasint"`
	Table    string `cbor:"5,keyasint"`
	Spec     []byte `cbor:"6,keyasint"` // JSON, as given
	Columns  []byte `cbor:"7,keyasint"` // JSON, column types as they were read when the mapping was accepted
	Index    uint64 `cbor:"8,keyasint"`
}

// MappingResult answers the mapping commands.
type MappingResult struct {
	Name     string `cbor:"1,keyasint,omitempty" json:",omitempty"`
	Revision uint64 `cbor:"2,keyasint,omitempty" json:",omitempty"`
}

// PutMapping declares or changes a mapping; the same again changes nothing. IfRevision 0 asks nothing; any other value must be the present revision.
type PutMapping struct {
	Name       string `cbor:"1,keyasint"`
	Source     string `cbor:"2,keyasint"`
	Target     string `cbor:"3,keyasint"`
	Table      string `cbor:"4,keyasint"`
	Spec       []byte `cbor:"5,keyasint"`
	Columns    []byte `cbor:"6,keyasint"`
	IfRevision uint64 `cbor:"7,keyasint,omitempty"`
}

func (PutMapping) kind() Kind { return kindPutMapping }

func (c PutMapping) apply(s *State) Result {
	if c.Name == "" || len(c.Name) > NameBytesMax || len(c.Spec) > SpecBytesMax || len(c.Columns) > SpecBytesMax {
		return refuse(CodeInvalid, "mapping name or specification out of bounds")
	}
	old, known := s.mappings.get(c.Name)
	if c.IfRevision != 0 && c.IfRevision != old.Revision {
		return refuse(CodeVersionMismatch, "the mapping has another revision")
	}
	if !known && s.mappings.len() >= MappingsMax {
		return refuse(CodeMappingsFull, "the cluster knows as many mappings as it may")
	}
	if known && c.same(old) {
		return Result{Mapping: &MappingResult{Name: old.Name, Revision: old.Revision}}
	}
	m := Mapping{Name: c.Name, Revision: s.nextToken(), Source: c.Source, Target: c.Target, Table: c.Table, Spec: c.Spec,
		Columns: c.Columns, Index: s.nextRevision()}
	s.mappings.set(c.Name, m)
	return Result{Mapping: &MappingResult{Name: m.Name, Revision: m.Revision}}
}

func (c PutMapping) same(m Mapping) bool {
	return c.Source == m.Source && c.Target == m.Target && c.Table == m.Table && bytes.Equal(c.Spec, m.Spec) && bytes.Equal(c.Columns, m.Columns)
}

// DeleteMapping forgets a mapping that has no pending events and no running pass. Its dead letters go with it.
type DeleteMapping struct {
	Name       string `cbor:"1,keyasint"`
	IfRevision uint64 `cbor:"2,keyasint,omitempty"`
}

func (DeleteMapping) kind() Kind { return kindDeleteMapping }

func (c DeleteMapping) apply(s *State) Result {
	m, known := s.mappings.get(c.Name)
	_, unfinished := s.Unfinished(c.Name)
	switch {
	case !known:
		return refuse(CodeMappingNotFound, "no such mapping")
	case c.IfRevision != 0 && c.IfRevision != m.Revision:
		return refuse(CodeVersionMismatch, "the mapping has another revision")
	case s.pending[c.Name] > 0:
		return refuse(CodeMappingInUse, "the mapping has pending events")
	case s.reservedOf[c.Name] > 0:
		return refuse(CodeMappingInUse, "the mapping has prepared events")
	case unfinished:
		return refuse(CodeMappingInUse, "a pass over the mapping is not over")
	}
	var letters []string
	s.dead.ascend(eventKey(c.Name, ""), func(key string, d DeadLetter) bool {
		if d.Mapping == c.Name {
			letters = append(letters, key)
		}
		return d.Mapping == c.Name
	})
	for _, key := range letters {
		s.dead.delete(key)
	}
	delete(s.buried, c.Name)
	delete(s.buriedAs, c.Name)
	s.pauses.delete(pauseKey(PauseMapping, c.Name))
	s.doubts.delete(c.Name)
	s.schedules.delete(c.Name)
	s.mappings.delete(c.Name)
	return Result{Mapping: &MappingResult{Name: m.Name, Revision: m.Revision}}
}

// Pending and Dead are the numbers of a mapping's undelivered events and dead letters.
func (s *State) Pending(mapping string) int { return s.pending[mapping] }
func (s *State) Dead(mapping string) int    { return s.buried[mapping] }

// Mapping gives a mapping by name.
func (s *State) Mapping(name string) (Mapping, bool) { return s.mappings.get(name) }

// Mappings visits the mappings in the order of their names, from the given one.
func (s *State) Mappings(from string, visit func(Mapping) bool) {
	s.mappings.ascend(from, func(_ string, m Mapping) bool { return visit(m) })
}
