package store

import (
	"bytes"
	"testing"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	walfs "github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"github.com/quiescehq/quiesce/transport/raftlog"
)

// frozenMeta stores nothing from some moment on: what the disk holds is what a crash at that moment leaves.
type frozenMeta struct {
	*walMeta
	frozen bool
}

func (m *frozenMeta) CommitState(state types.PersistentState) error {
	if m.frozen {
		return errDisk
	}
	return m.walMeta.CommitState(state)
}

func TestWAL_CrashBetweenTheLastAppendAndTheRotationIsSurvived(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, t.TempDir(), WAL)
	cfg.SegmentBytes = 16 << 10
	s := openIn(t, cfg)
	dir := s.path(walDir)
	noError(t, s.Close())

	meta := &frozenMeta{walMeta: &walMeta{filer: segment.NewFiler(dir, walfs.New())}}
	log := value(wal.Open(dir, wal.WithMetaStore(meta), wal.WithSegmentSize(cfg.SegmentBytes), wal.WithLogger(raftlog.New(cfg.Logger))))(t)
	noError(t, log.StoreLogs(entries(1, 3, 1)))
	meta.frozen = true
	noError(t, log.StoreLog(&raft.Log{Index: 4, Term: 1, Data: bytes.Repeat([]byte{4}, cfg.SegmentBytes)}))
	noError(t, log.Close())
	noError(t, meta.Close())

	s = openIn(t, cfg)
	wantBounds(t, s, 1, 4)
	noError(t, s.Logs().StoreLogs(entries(5, 9, 1)))
	s = reopen(t, s, cfg)
	wantBounds(t, s, 1, 9)
	wantEntries(t, s, 1, 3)
	wantEntries(t, s, 5, 9)
}

// A deletion right behind the append that fills a segment, many times: the rotation runs in the background.
func TestWAL_DeletionNeverMeetsARotation(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, t.TempDir(), WAL)
	cfg.SegmentBytes, cfg.CacheBytesMax = 16<<10, 1
	s := openIn(t, cfg)
	full := bytes.Repeat([]byte("q"), cfg.SegmentBytes)
	for i := uint64(1); i <= 100; i++ {
		noError(t, s.Logs().StoreLogs([]*raft.Log{{Index: i, Term: 1}, {Index: i + 1, Term: 1, Data: full}}))
		noError(t, s.Logs().DeleteRange(i+1, i+1))
	}
	s = reopen(t, s, cfg)
	wantBounds(t, s, 1, 100)
	for i := uint64(1); i <= 100; i++ {
		noError(t, s.Logs().GetLog(i, new(raft.Log)))
	}
}
