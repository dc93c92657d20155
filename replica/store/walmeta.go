package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// walMeta completes, when a log is opened, what raft-wal v0.4.0 leaves undone:
//
//   - Deleting a tail marks its segment sealed without writing the segment's index (hashicorp/raft-wal#31, fixed there after the
//     release). The process reads on from memory; after a restart each read in that segment fails, so a follower that once
//     dropped a conflicting entry could never start again.
//   - A crash after the append that fills a segment, before the rotation in the background is recorded, leaves a tail
//     that counts as open and refuses every append.
//
// Load runs before raft-wal opens a segment. Both repairs can be repeated after a crash in their middle.
type walMeta struct {
	metadb.BoltMetaDB
	filer types.SegmentFiler
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
		if info.IndexStart, err = m.appendIndex(dir, *info); err != nil {
			return state, fmt.Errorf("index of segment %s: %w", segment.FileName(*info), err)
		}
		repaired = true
	}
	rotated, err := m.completeRotation(&state)
	if err == nil && (repaired || rotated) {
		err = m.CommitState(state)
	}
	return state, err
}

// appendIndex writes the offsets of the segment's entries behind everything else in its file and returns where they
// start. Dying before that place is recorded costs some bytes in the file.
func (m *walMeta) appendIndex(dir string, info types.SegmentInfo) (uint64, error) {
	index, err := m.buildIndex(info)
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
func (m *walMeta) buildIndex(info types.SegmentInfo) ([]byte, error) {
	whole := info
	whole.MinIndex = info.BaseIndex
	recovered, err := m.filer.RecoverTail(whole)
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

// completeRotation seals a full tail in the meta data and adds the next segment, whose file raft-wal makes when it
// finds none.
func (m *walMeta) completeRotation(state *types.PersistentState) (bool, error) {
	if len(state.Segments) == 0 {
		return false, nil
	}
	tail := &state.Segments[len(state.Segments)-1]
	if !tail.SealTime.IsZero() {
		return false, nil
	}
	recovered, err := m.filer.RecoverTail(*tail)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // its file was not made before a crash: raft-wal does
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = recovered.Close() }()
	sealed, indexStart, err := recovered.Sealed()
	if err != nil || !sealed {
		return false, err
	}
	now := time.Now()
	tail.SealTime, tail.IndexStart, tail.MaxIndex = now, indexStart, recovered.LastIndex()
	next := *tail
	next.ID, next.BaseIndex, next.MinIndex = state.NextSegmentID, tail.MaxIndex+1, tail.MaxIndex+1
	next.MaxIndex, next.IndexStart, next.CreateTime, next.SealTime = 0, 0, now, time.Time{}
	state.Segments = append(state.Segments, next)
	state.NextSegmentID++
	return true, nil
}
