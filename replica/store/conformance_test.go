package store

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// One suite for both log stores, through every wrapper.

func TestLogs_KeepEntriesAcrossReopenAndTruncation(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, kind Kind) {
		cfg := testConfig(t, t.TempDir(), kind)
		s := openIn(t, cfg)
		wantBounds(t, s, 0, 0)
		noError(t, s.Logs().StoreLogs(entries(1, 20, 1)))
		noError(t, s.Logs().StoreLog(entries(21, 21, 2)[0]))
		wantBounds(t, s, 1, 21)
		wantEntries(t, s, 1, 21)

		s = reopen(t, s, cfg)
		wantBounds(t, s, 1, 21)
		wantEntries(t, s, 1, 21)

		noError(t, s.Logs().DeleteRange(1, 5))
		noError(t, s.Logs().DeleteRange(18, 21))
		wantBounds(t, s, 6, 17)
		wantAbsent(t, s, 5)
		wantAbsent(t, s, 18)
		noError(t, s.Logs().StoreLogs(entries(18, 30, 3)))

		s = reopen(t, s, cfg)
		wantBounds(t, s, 6, 30)
		wantEntries(t, s, 6, 30)
		noError(t, s.Logs().DeleteRange(6, 30))
		noError(t, s.Logs().StoreLogs(entries(101, 102, 4)))
		s = reopen(t, s, cfg)
		wantBounds(t, s, 101, 102)
	})
}

func TestLogs_RollThroughManySegments(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, kind Kind) {
		cfg := testConfig(t, t.TempDir(), kind)
		cfg.CacheBytesMax = 1 // read from disk
		s := openIn(t, cfg)
		data := bytes.Repeat([]byte("q"), 50<<10)
		for i := uint64(1); i <= 40; i++ {
			noError(t, s.Logs().StoreLog(&raft.Log{Index: i, Term: 1, Data: data}))
		}
		noError(t, s.Logs().DeleteRange(1, 22))
		s = reopen(t, s, cfg)
		wantBounds(t, s, 23, 40)
		for i := uint64(23); i <= 40; i++ {
			var got raft.Log
			noError(t, s.Logs().GetLog(i, &got))
			if !bytes.Equal(got.Data, data) {
				t.Fatalf("entry %d came back changed", i)
			}
		}
	})
}

func TestLogs_IsMonotonicOnlyWhereTheStoreIs(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, kind Kind) {
		s := openIn(t, testConfig(t, t.TempDir(), kind))
		logs, ok := s.Logs().(raft.MonotonicLogStore)
		if !ok || logs.IsMonotonic() != (kind == WAL) {
			t.Fatalf("IsMonotonic through the wrappers is wrong for %s", kind)
		}
	})
}

func TestStable_KeepsTermAndVoteAcrossReopen(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, kind Kind) {
		cfg := testConfig(t, t.TempDir(), kind)
		s := openIn(t, cfg)
		if _, err := s.Stable().GetUint64([]byte("CurrentTerm")); err == nil || err.Error() != "not found" {
			t.Fatalf("absent term: %v, raft needs the text %q", err, "not found")
		}
		noError(t, s.Stable().SetUint64([]byte("CurrentTerm"), 9))
		vote(t, s, 9, "addr-n2")
		s = reopen(t, s, cfg)
		if term := value(s.Stable().GetUint64([]byte("CurrentTerm")))(t); term != 9 {
			t.Fatalf("term %d", term)
		}
		wantVote(t, s, 9, "addr-n2")
	})
}

func TestRaft_SurvivesRestartSnapshotAndRestore(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, kind Kind) {
		n := startNode(t, "n1", testConfig(t, t.TempDir(), kind))
		n.bootstrap(t)
		n.lead(t)
		n.apply(t, 10)
		n = n.restart(t)
		n.lead(t)
		n.counts(t, 10)
		noError(t, n.raft.Snapshot().Error())
		n.apply(t, 3)
		n = n.restart(t)
		n.lead(t)
		n.counts(t, 13)

		backup := bytes.Repeat([]byte{1}, 100)
		meta := &raft.SnapshotMeta{Version: 1, Index: 5, Term: 1, Size: int64(len(backup))}
		noError(t, n.raft.Restore(meta, bytes.NewReader(backup), 5*time.Second))
		n.apply(t, 2)
		n.counts(t, 102)
		n = n.restart(t)
		n.lead(t)
		n.counts(t, 102)
		n.apply(t, 1)
		n.counts(t, 103)
	})
}

func TestRaft_InstallsSnapshotOnEmptyAndOnLateFollower(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, kind Kind) {
		leader := startNode(t, "n1", testConfig(t, t.TempDir(), kind))
		leader.bootstrap(t)
		leader.lead(t)
		leader.apply(t, 20)
		noError(t, leader.raft.Snapshot().Error())

		follower := startNode(t, "n2", testConfig(t, t.TempDir(), kind))
		connect(leader, follower)
		noError(t, leader.raft.AddNonvoter(follower.id, follower.addr(), 0, 5*time.Second).Error())
		follower.counts(t, 20)
		leader.apply(t, 5)
		follower.counts(t, 25)

		follower.stop(t)
		leader.apply(t, 10)
		noError(t, leader.raft.Snapshot().Error())
		leader.apply(t, 1)
		follower = startNode(t, "n2", follower.cfg)
		connect(leader, follower)
		follower.counts(t, 36)
		follower = follower.restart(t)
		connect(leader, follower)
		leader.apply(t, 1)
		follower.counts(t, 37)
		noError(t, follower.stores.LoadNewest(func(r io.Reader) error {
			_, err := io.Copy(io.Discard, r)
			return err
		}))
	})
}

func wantBounds(t *testing.T, s *Stores, first, last uint64) {
	t.Helper()
	gotFirst, gotLast, err := bounds(s.Logs())
	noError(t, err)
	if gotFirst != first || gotLast != last {
		t.Fatalf("log holds %d to %d, want %d to %d", gotFirst, gotLast, first, last)
	}
}

func wantEntries(t *testing.T, s *Stores, first, last uint64) {
	t.Helper()
	for i := first; i <= last; i++ {
		var got raft.Log
		noError(t, s.Logs().GetLog(i, &got))
		if got.Index != i || len(got.Data) != 1 || got.Data[0] != byte(i) {
			t.Fatalf("entry %d came back as %+v", i, got)
		}
	}
}

func wantAbsent(t *testing.T, s *Stores, index uint64) {
	t.Helper()
	var got raft.Log
	// Compared by identity, as raft does.
	if err := s.Logs().GetLog(index, &got); err != raft.ErrLogNotFound { //nolint:errorlint // raft compares so
		t.Fatalf("entry %d: %v, want raft.ErrLogNotFound itself", index, err)
	}
}

var errDisk = errors.New("no space left on device")
