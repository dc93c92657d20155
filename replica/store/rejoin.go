package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
)

const rejoinFile = "rejoin"

// MarkRejoin asks the next Open to drop a log that keeps this node from following: raft installs the same snapshot
// again and again when the log's tail contradicts it and the entry at the snapshot's index is already gone. The
// caller ends the process after it.
func (s *Stores) MarkRejoin() error {
	if s.dir == "" {
		return nil
	}
	return writeAtomically(filepath.Join(s.dir, rejoinFile), nil)
}

// rejoinIfMarked drops the log when that cannot lose an acknowledged entry. Term, vote, identity, configuration (in the
// snapshot) and the snapshot stay: the node is the same voter, with the state that the leader gave it.
//
// A voter's log may hold entries whose commit rests on this very copy, so "wipe and rejoin" is safe only if the tail
// after the snapshot was never committed. That is so when the snapshot (index S, term T: committed) is not in the
// tail's history: the log's entry at S has another term, or it is gone and the next entry's term is below T (terms
// never fall along one history). Otherwise the node must be removed and joined anew, which only an operator may do.
func (s *Stores) rejoinIfMarked() error {
	marker := filepath.Join(s.dir, rejoinFile)
	marked, err := exists(marker)
	if err != nil || !marked {
		return err
	}
	snapshot, err := s.newestMeta()
	if err != nil {
		return err
	}
	first, last, err := bounds(s.logs)
	if err != nil {
		return err
	}
	if err := s.checkTail(snapshot, first, last); err != nil {
		return err
	}
	if last != 0 {
		if err := s.logs.DeleteRange(first, last); err != nil {
			return err
		}
		s.log.Warn("store: log dropped to rejoin from the snapshot", "snapshot_index", snapshot.Index, "first", first, "last", last)
	}
	if err := os.Remove(marker); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return syncDir(s.dir)
}

func (s *Stores) newestMeta() (*raft.SnapshotMeta, error) {
	id, err := s.newestSnapshot()
	if err != nil {
		return nil, err
	}
	if id == "" {
		return nil, fmt.Errorf("%w: there is no snapshot to rejoin from", ErrRejoin)
	}
	meta, content, err := s.snapshots.Open(id)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrSnapshotDamaged, id, err)
	}
	return meta, content.Close()
}

func bounds(logs raft.LogStore) (first, last uint64, err error) {
	if first, err = logs.FirstIndex(); err != nil {
		return 0, 0, err
	}
	last, err = logs.LastIndex()
	return first, last, err
}

// checkTail returns nil when no entry after the snapshot can have been committed.
func (s *Stores) checkTail(snapshot *raft.SnapshotMeta, first, last uint64) error {
	if last <= snapshot.Index {
		return nil
	}
	var at raft.Log
	err := s.logs.GetLog(max(first, snapshot.Index), &at)
	if err != nil && !errors.Is(err, raft.ErrLogNotFound) {
		return err
	}
	switch {
	case err == nil && at.Index == snapshot.Index && at.Term != snapshot.Term:
		return nil
	case err == nil && at.Index > snapshot.Index && at.Term < snapshot.Term:
		return nil
	}
	return fmt.Errorf("%w: entries %d to %d may have been acknowledged; remove this node from the cluster and start it with an empty data folder",
		ErrRejoin, snapshot.Index+1, last)
}
