package store

import (
	"errors"
	"fmt"
	"os"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	wal "github.com/hashicorp/raft-wal"
	walfs "github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/segment"
	"go.etcd.io/bbolt"

	"github.com/quiescehq/quiesce/transport/raftlog"
)

// openStores opens stable store, log and snapshots, in this order, and puts the wrappers around them.
func (s *Stores) openStores(cfg Config) error {
	stable, err := s.openBolt(s.path(stableDB))
	if err != nil {
		return err
	}
	logs, err := s.openLogs(cfg)
	if err != nil {
		return err
	}
	// bbolt syncs its file but not the folder that the file is new in.
	if err := syncDir(s.path()); err != nil {
		return err
	}
	if s.snapshots, err = s.openSnapshots(raftlog.New(cfg.Logger)); err != nil {
		return err
	}
	s.wrap(cfg, logs, stable)
	return nil
}

func (s *Stores) wrap(cfg Config, logs raft.LogStore, stable raft.StableStore) {
	if cfg.WrapLogs != nil {
		logs = cfg.WrapLogs(logs)
	}
	if cfg.WrapStable != nil {
		stable = cfg.WrapStable(stable)
	}
	watch := &guard{limit: cfg.SyncTimeout, onFatal: cfg.OnFatal}
	s.logs = newCache(&guardedLogs{inner: logs, guard: watch}, cfg.CacheBytesMax)
	s.stable = &guardedStable{inner: &votes{StableStore: stable}, guard: watch}
}

func (s *Stores) openLogs(cfg Config) (raft.LogStore, error) {
	if cfg.LogStore == BoltDB {
		// Its own file: a vote never waits for an append in bbolt's write lock, the log's churn does not grow the
		// file that holds the vote, and wiping the log cannot touch it.
		return s.openBolt(s.path(logDB))
	}
	return s.openWAL(cfg)
}

// openBolt makes the freelist a map kept in memory: with the default it is written again at each commit, which on a
// log that is appended and truncated grows without bound.
func (s *Stores) openBolt(path string) (*raftboltdb.BoltStore, error) {
	db, err := raftboltdb.New(raftboltdb.Options{
		Path:        path,
		BoltOptions: &bbolt.Options{NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, Timeout: boltOpenTimeout},
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, path, err)
	}
	s.closers = append(s.closers, db.Close)
	return db, nil
}

// openWAL gives raft-wal its meta store instead of letting it make one: its Close leaves that open, with the file
// lock that a second Open in this process would wait for without end.
func (s *Stores) openWAL(cfg Config) (raft.LogStore, error) {
	dir := s.path(walDir)
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	files := segment.NewFiler(dir, walfs.New())
	meta, filer := &walMeta{filer: files}, &rotationFiler{SegmentFiler: files}
	log, err := wal.Open(dir, wal.WithMetaStore(meta), wal.WithSegmentFiler(filer),
		wal.WithSegmentSize(cfg.SegmentBytes), wal.WithLogger(raftlog.New(cfg.Logger)))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %s: %w", ErrDamaged, dir, err), meta.Close())
	}
	s.closers = append(s.closers, meta.Close, log.Close)
	return &walLogs{WAL: log, filer: filer}, nil
}
