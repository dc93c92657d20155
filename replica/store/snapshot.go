package store

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// snapshotFiles is raft's file store, with the names inside a new snapshot made durable: it syncs the files and the
// parent, not the folder between them.
type snapshotFiles struct {
	*raft.FileSnapshotStore
	dir string
}

func (f *snapshotFiles) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration,
	configurationIndex uint64, trans raft.Transport,
) (raft.SnapshotSink, error) {
	sink, err := f.FileSnapshotStore.Create(version, index, term, configuration, configurationIndex, trans)
	if err != nil {
		return nil, err
	}
	if err := syncDir(filepath.Join(f.dir, sink.ID()+tmpSuffix)); err != nil {
		return nil, errors.Join(err, sink.Cancel())
	}
	return sink, nil
}

// openSnapshots also removes what a crash left half written: raft's store skips such folders for ever.
func (s *Stores) openSnapshots(logger hclog.Logger) (raft.SnapshotStore, error) {
	files, err := raft.NewFileSnapshotStoreWithLogger(s.path(), snapshotsRetainedMax, logger)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	left, err := filepath.Glob(s.path(snapsDir, "*"+tmpSuffix))
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	for _, path := range left {
		if err := os.RemoveAll(path); err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
	}
	return &snapshotFiles{FileSnapshotStore: files, dir: s.path(snapsDir)}, nil
}

// LoadNewest gives the newest snapshot to load, which decodes it, after it was read through its checksum. It is called
// before raft starts, and raft is told not to restore: raft falls back to an older snapshot in silence, and the log no
// longer reaches back to that. Without any snapshot it returns nil. Errors wrap ErrSnapshotDamaged.
func (s *Stores) LoadNewest(load func(io.Reader) error) error {
	id, err := s.newestSnapshot()
	if err != nil || id == "" {
		return err
	}
	listed, err := newestListed(s.snapshots)
	if err != nil {
		return err
	}
	if listed != id {
		return fmt.Errorf("%w: %s: raft would begin with %q", ErrSnapshotDamaged, id, listed)
	}
	_, content, err := s.snapshots.Open(id)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrSnapshotDamaged, id, err)
	}
	defer func() { _ = content.Close() }()
	if err := load(content); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrSnapshotDamaged, id, err)
	}
	return nil
}

// newestSnapshot goes by the folders' names, not by List, which leaves out those whose meta data it cannot read.
func (s *Stores) newestSnapshot() (string, error) {
	if s.dir == "" {
		return newestListed(s.snapshots)
	}
	entries, err := os.ReadDir(s.path(snapsDir))
	if err != nil {
		return "", fmt.Errorf("store: %w", err)
	}
	var newest snapshotName
	for _, entry := range entries {
		name, ok := parseSnapshotName(entry.Name())
		if ok && entry.IsDir() && name.compare(newest) > 0 {
			newest = name
		}
	}
	return newest.id, nil
}

func newestListed(snapshots raft.SnapshotStore) (string, error) {
	list, err := snapshots.List()
	if err != nil || len(list) == 0 {
		return "", err
	}
	return list[0].ID, nil
}

// snapshotName is term-index-milliseconds, raft's order of snapshots.
type snapshotName struct {
	id     string
	number [3]uint64
}

func parseSnapshotName(id string) (snapshotName, bool) {
	name := snapshotName{id: id}
	if strings.HasSuffix(id, tmpSuffix) {
		return name, false
	}
	n, err := fmt.Sscanf(id, "%d-%d-%d", &name.number[0], &name.number[1], &name.number[2])
	return name, err == nil && n == len(name.number)
}

func (n snapshotName) compare(other snapshotName) int {
	return cmp.Or(slices.Compare(n.number[:], other.number[:]), cmp.Compare(n.id, other.id))
}
