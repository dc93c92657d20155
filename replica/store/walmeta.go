package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	walfs "github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// walMeta completes what raft-wal v0.4.0 leaves undone: deleting a tail of the log marks the segment sealed without writing
// its index (hashicorp/raft-wal#31, fixed there after the release). The running process reads on from memory, but after a
// restart each read in that segment fails with "sealed segment has no index block", so a follower that once dropped a
// conflicting entry could never start again. Load runs before raft-wal opens a segment: it writes the missing index.
type walMeta struct {
	metadb.BoltMetaDB
}

// Load implements types.MetaStore.
func (m *walMeta) Load(dir string) (types.PersistentState, error) {
	state, err := m.BoltMetaDB.Load(dir)
	if err != nil {
		return state, err
	}
	repaired := false
	for i := range state.Segments {
		info := &state.Segments[i]
		if info.SealTime.IsZero() || info.IndexStart != 0 {
			continue
		}
		if info.IndexStart, err = appendIndex(dir, *info); err != nil {
			return state, fmt.Errorf("index of segment %s: %w", segment.FileName(*info), err)
		}
		repaired = true
	}
	if repaired {
		err = m.CommitState(state)
	}
	return state, err
}

// appendIndex writes the offsets of the segment's entries behind everything else in its file and returns where they
// start. Dying before that place is recorded costs some bytes in the file: the next Load appends them again.
func appendIndex(dir string, info types.SegmentInfo) (uint64, error) {
	index, err := buildIndex(dir, info)
	if err != nil {
		return 0, err
	}
	file, err := os.OpenFile(filepath.Join(dir, segment.FileName(info)), os.O_WRONLY, 0)
	if err != nil {
		return 0, err
	}
	start, err := file.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = file.Write(index)
	}
	return uint64(start), errors.Join(err, file.Sync(), file.Close())
}

// buildIndex finds each entry's offset by the recovery that raft-wal itself uses for an unsealed segment. The index
// has one slot for each entry from BaseIndex on, those before MinIndex included.
func buildIndex(dir string, info types.SegmentInfo) ([]byte, error) {
	whole := info
	whole.MinIndex = info.BaseIndex
	recovered, err := segment.NewFiler(dir, walfs.New()).RecoverTail(whole)
	if err != nil {
		return nil, err
	}
	defer func() { _ = recovered.Close() }()
	frames, ok := recovered.(interface {
		OffsetForFrame(index uint64) (uint32, error)
	})
	if !ok {
		return nil, fmt.Errorf("%T tells no offsets", recovered)
	}
	var index []byte
	for i := info.BaseIndex; i <= info.MaxIndex; i++ {
		offset, err := frames.OffsetForFrame(i)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", i, err)
		}
		index = binary.LittleEndian.AppendUint32(index, offset)
	}
	return index, nil
}
