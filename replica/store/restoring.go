package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const restoringFile = "restoring.json"

// Restoring is a restore of a backup under way on this node, as leader.
type Restoring struct {
	Voters int    `json:"voters"`
	Index  uint64 `json:"index"` // that the restored snapshot will have
}

// MarkRestoring is called before raft takes a backup as its newest snapshot. That snapshot stands for an index of which no other node has
// heard yet. If this one dies now, the others may elect a leader without it and fill that index with something else, and no check of raft
// notices: this node would follow with a state of its own. So the mark stays until a majority has the snapshot, and a folder that still
// has it is not opened.
func (s *Stores) MarkRestoring(m Restoring) error {
	if s.dir == "" {
		return nil
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return writeAtomically(filepath.Join(s.dir, restoringFile), raw)
}

// ClearRestoring is called when a majority has the snapshot, or none was made.
func (s *Stores) ClearRestoring() error {
	if s.dir == "" {
		return nil
	}
	if err := os.Remove(filepath.Join(s.dir, restoringFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("store: %w", err)
	}
	return syncDir(s.dir)
}

// CheckRestoring refuses a folder whose state may be this node's alone. Where this node is the only voter there is nobody to differ from:
// the restore took place if its snapshot is whole. Errors wrap ErrRejoin.
func (s *Stores) CheckRestoring() error {
	if s.dir == "" {
		return nil
	}
	raw, err := os.ReadFile(filepath.Join(s.dir, restoringFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("store: %w", err)
	}
	var m Restoring
	if err := json.Unmarshal(raw, &m); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrDamaged, restoringFile, err)
	}
	if m.Voters == 1 {
		return s.ClearRestoring()
	}
	return fmt.Errorf("%w: it ended in the middle of a restore (index %d), of which the others may know nothing; if the other nodes are well: "+
		"remove this node from the cluster (DELETE /v1/cluster/nodes/ID), move its data folder away, and start it again to join with an empty one",
		ErrRejoin, m.Index)
}
