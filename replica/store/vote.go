package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/raft"
)

// The keys that raft uses for its vote, and the one record that holds both values.
const (
	keyVoteTerm  = "LastVoteTerm"
	keyVoteCand  = "LastVoteCand"
	keyVote      = "LastVote"
	voteTermSize = 8
)

// errNotFound is what "absent" must look like: raft compares this very text.
var errNotFound = errors.New("not found")

// votes makes raft's vote one write. Raft writes the term and then the candidate; a crash in between would leave
// the new term with the old candidate, and raft grants a repeated vote to that candidate without comparing logs.
// So the term is held back until the candidate comes, and both are stored as one record: term (8) | candidate.
// A crash before that leaves the old vote whole.
type votes struct {
	raft.StableStore

	mu     sync.Mutex
	staged *uint64
}

func (v *votes) SetUint64(key []byte, val uint64) error {
	if string(key) != keyVoteTerm {
		return v.StableStore.SetUint64(key, val)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.staged = &val
	return nil
}

func (v *votes) Set(key, val []byte) error {
	if string(key) != keyVoteCand {
		return v.StableStore.Set(key, val)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.staged == nil {
		return errors.New("a vote's candidate was set without its term")
	}
	record := binary.BigEndian.AppendUint64(make([]byte, 0, voteTermSize+len(val)), *v.staged)
	v.staged = nil
	return v.StableStore.Set([]byte(keyVote), append(record, val...))
}

func (v *votes) GetUint64(key []byte) (uint64, error) {
	if string(key) != keyVoteTerm {
		return v.StableStore.GetUint64(key)
	}
	term, _, err := v.load()
	return term, err
}

func (v *votes) Get(key []byte) ([]byte, error) {
	if string(key) != keyVoteCand {
		return v.StableStore.Get(key)
	}
	_, candidate, err := v.load()
	return candidate, err
}

// load reads the durable vote: a staged term is no vote yet.
func (v *votes) load() (uint64, []byte, error) {
	record, err := v.StableStore.Get([]byte(keyVote))
	if err != nil {
		return 0, nil, err
	}
	if len(record) < voteTermSize {
		return 0, nil, fmt.Errorf("%w: vote record of %d bytes", ErrDamaged, len(record))
	}
	return binary.BigEndian.Uint64(record), record[voteTermSize:], nil
}
