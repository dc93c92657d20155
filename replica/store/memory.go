package store

import (
	"github.com/hashicorp/raft"
)

// OpenMemory is the same without a folder, for a node that is thrown away. Dir and LogStore are ignored.
func OpenMemory(cfg Config) (*Stores, error) {
	cfg.Dir, cfg.LogStore = "memory", WAL // only to pass the checks
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	id, err := newIdentity(cfg.NodeID, WAL)
	if err != nil {
		return nil, err
	}
	s := &Stores{log: cfg.Logger, identity: id, snapshots: raft.NewInmemSnapshotStore()}
	inmem := raft.NewInmemStore()
	s.wrap(cfg, inmem, inmem)
	return s, nil
}
