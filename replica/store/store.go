package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Kind is where the log lives.
type Kind string

// The kinds of log store. The stable store is bbolt in both cases.
const (
	WAL    Kind = "wal"    // hashicorp/raft-wal: one sync a commit
	BoltDB Kind = "boltdb" // raft-boltdb: two syncs a commit, the older code
)

func (k Kind) known() bool { return k == WAL || k == BoltDB }

// Defaults and limits.
const (
	syncTimeoutDefault   = 5 * time.Second
	cacheBytesDefault    = 64 << 20
	segmentBytesDefault  = 64 << 20
	snapshotsRetainedMax = 2
	boltOpenTimeout      = time.Second
)

const (
	raftDir   = "raft"
	walDir    = "wal"
	logDB     = "log.db"
	stableDB  = "stable.db"
	snapsDir  = "snapshots" // the name is raft.FileSnapshotStore's
	dirMode   = 0o700
	tmpSuffix = ".tmp"
)

// Config of the stores. Dir, NodeID (for a new folder), OnFatal and Logger are required.
type Config struct {
	Dir      string
	NodeID   string
	LogStore Kind // default WAL

	// OnFatal is called once, at the first error or hung call of the log or stable store, from the goroutine that
	// saw it and before raft sees the error. It must end the process: what raft was doing has an unknown outcome,
	// and raft panics when it cannot store its term.
	OnFatal     func(error)
	SyncTimeout time.Duration // a call longer than this is hung; default 5 s

	CacheBytesMax int // default 64 MiB
	SegmentBytes  int // raft-wal's preallocation unit; default 64 MiB
	Logger        *slog.Logger

	WrapLogs   func(raft.LogStore) raft.LogStore       // below guard and cache; for fault injection
	WrapStable func(raft.StableStore) raft.StableStore // below guard and vote record; for fault injection
}

// Stores is everything durable of one node, held by one process.
type Stores struct {
	dir       string
	log       *slog.Logger
	logs      *cache
	stable    *guardedStable
	snapshots raft.SnapshotStore
	closers   []func() error // run in reverse

	mu       sync.Mutex
	identity Identity
	forming  []byte // of a folder in memory
}

// Open takes the data folder for this process and opens what is in it, or makes a new one.
func Open(cfg Config) (_ *Stores, err error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	if err := makeDirs(filepath.Join(cfg.Dir, raftDir)); err != nil {
		return nil, err
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	s := &Stores{dir: cfg.Dir, log: cfg.Logger, closers: []func() error{lock.Close}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	known, err := s.loadIdentity(cfg)
	if err != nil {
		return nil, err
	}
	if err := s.openStores(cfg); err != nil {
		return nil, err
	}
	if !known {
		err = s.found(cfg)
	}
	if err == nil {
		err = s.rejoinIfMarked()
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (c *Config) complete() error {
	if c.LogStore == "" {
		c.LogStore = WAL
	}
	switch {
	case c.OnFatal == nil || c.Logger == nil:
		return errors.New("store: OnFatal and Logger are required")
	case c.Dir == "":
		return errors.New("store: a data folder is required")
	case !c.LogStore.known():
		return fmt.Errorf("store: log store %q is neither %q nor %q", c.LogStore, WAL, BoltDB)
	}
	if c.SyncTimeout == 0 {
		c.SyncTimeout = syncTimeoutDefault
	}
	if c.CacheBytesMax == 0 {
		c.CacheBytesMax = cacheBytesDefault
	}
	if c.SegmentBytes == 0 {
		c.SegmentBytes = segmentBytesDefault
	}
	return nil
}

// makeDirs also makes the new names durable, up to the folder's own.
func makeDirs(dir string) error {
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return fmt.Errorf("store: cannot make the data folder: %w", err)
	}
	parent := filepath.Dir(dir)
	return errors.Join(syncDir(parent), syncDir(filepath.Dir(parent)))
}

// loadIdentity returns true for a folder that has been founded; then its stores must be there too, because bbolt
// and raft-wal would quietly make empty ones: a voter without its votes.
func (s *Stores) loadIdentity(cfg Config) (bool, error) {
	id, known, err := readIdentity(s.dir)
	if err != nil || !known {
		return false, err
	}
	if err := id.check(s.dir, cfg.NodeID, cfg.LogStore); err != nil {
		return true, err
	}
	s.identity = id
	for _, path := range []string{s.path(stableDB), s.logPath(cfg.LogStore)} {
		if _, err := os.Stat(path); err != nil {
			return true, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	}
	return true, nil
}

// found writes the identity after the stores were made: a folder with an identity is complete.
func (s *Stores) found(cfg Config) error {
	has, err := s.HasState()
	if err != nil {
		return err
	}
	if has {
		return fmt.Errorf("%w: %s holds raft state but no %s", ErrDamaged, s.dir, identityFile)
	}
	if s.identity, err = newIdentity(cfg.NodeID, cfg.LogStore); err != nil {
		return err
	}
	return s.identity.write(s.dir)
}

func (s *Stores) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir, raftDir}, elem...)...)
}

func (s *Stores) logPath(kind Kind) string {
	if kind == BoltDB {
		return s.path(logDB)
	}
	return s.path(walDir)
}

// Logs is the raft log: cache over guard over store.
func (s *Stores) Logs() raft.LogStore { return s.logs }

// Stable holds raft's term and vote.
func (s *Stores) Stable() raft.StableStore { return s.stable }

// Snapshots holds the newest two snapshots.
func (s *Stores) Snapshots() raft.SnapshotStore { return s.snapshots }

// Identity is the node that the folder belongs to.
func (s *Stores) Identity() Identity {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.identity
}

// ErrClusterID: the folder already belongs to another cluster.
var ErrClusterID = errors.New("data folder belongs to another cluster")

// SetClusterID records the cluster, durably, before it returns. Setting the same id again is no error; another one
// is refused: a folder changes its cluster by being made anew.
func (s *Stores) SetClusterID(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.identity.ClusterID == id {
		return nil
	}
	if s.identity.ClusterID != "" || id == "" {
		return fmt.Errorf("%w: it is %q, asked for %q", ErrClusterID, s.identity.ClusterID, id)
	}
	next := s.identity
	next.ClusterID = id
	if s.dir != "" {
		if err := next.write(s.dir); err != nil {
			return err
		}
	}
	s.identity = next
	return nil
}

// HasState tells whether raft has ever run here with a term, an entry or a snapshot.
func (s *Stores) HasState() (bool, error) {
	has, err := raft.HasExistingState(s.logs, s.stable, s.snapshots)
	if err != nil {
		return false, fmt.Errorf("store: %w", err)
	}
	return has, nil
}

// Close closes the stores, then gives up the folder. Raft must have been shut down.
func (s *Stores) Close() error {
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i]())
	}
	s.closers = nil
	return errors.Join(errs...)
}

func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
