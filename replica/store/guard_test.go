package store

import (
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// faultyLogs blocks or fails appends.
type faultyLogs struct {
	raft.LogStore
	hang <-chan struct{} // nil = does not
	err  error
}

func (f faultyLogs) StoreLogs(logs []*raft.Log) error {
	if f.hang != nil {
		<-f.hang
	}
	if f.err != nil {
		return f.err
	}
	return f.LogStore.StoreLogs(logs)
}

func faulty(t *testing.T, kind Kind, fault faultyLogs) (*Stores, <-chan error) {
	t.Helper()
	fatal := make(chan error, 10)
	cfg := testConfig(t, t.TempDir(), kind)
	cfg.OnFatal = func(err error) { fatal <- err }
	cfg.SyncTimeout = 50 * time.Millisecond
	cfg.WrapLogs = func(inner raft.LogStore) raft.LogStore {
		fault.LogStore = inner
		return fault
	}
	return openIn(t, cfg), fatal
}

func TestGuard_HungAppendIsFatalWithinTheTimeout(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, kind Kind) {
		release := make(chan struct{})
		s, fatal := faulty(t, kind, faultyLogs{hang: release})
		done := make(chan error, 1)
		go func() { done <- s.Logs().StoreLogs(entries(1, 1, 1)) }()
		select {
		case err := <-fatal:
			var hung *HungError
			if !errors.As(err, &hung) || !errors.Is(err, ErrStoreHung) || hung.Op != "log append" {
				t.Fatalf("fatal with %v", err)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("a hung store was never reported")
		}
		if err := s.Logs().StoreLogs(entries(2, 2, 1)); !errors.Is(err, ErrStoreHung) {
			t.Fatalf("write after a fatal report: %v", err)
		}
		close(release)
		noError(t, <-done)
		wantOneReport(t, fatal)
	})
}

func TestGuard_FullDiskIsFatalOnceAndNothingIsWrittenAfter(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, kind Kind) {
		s, fatal := faulty(t, kind, faultyLogs{err: errDisk})
		for range 3 {
			if err := s.Logs().StoreLogs(entries(1, 1, 1)); !errors.Is(err, ErrStore) || !errors.Is(err, errDisk) {
				t.Fatalf("append on a full disk: %v", err)
			}
		}
		if err := s.Stable().SetUint64([]byte("CurrentTerm"), 1); !errors.Is(err, errDisk) {
			t.Fatalf("stable write after the log failed: %v", err)
		}
		if err := <-fatal; !errors.Is(err, ErrStore) {
			t.Fatalf("fatal with %v", err)
		}
		wantOneReport(t, fatal)
	})
}

func TestGuard_AppliesOfAFailingNodeAreNeverAnsweredNotApplied(t *testing.T) {
	t.Parallel()
	fatal := make(chan error, 10)
	cfg := testConfig(t, t.TempDir(), WAL)
	full := make(chan struct{})
	cfg.OnFatal = func(err error) { fatal <- err }
	cfg.WrapLogs = func(inner raft.LogStore) raft.LogStore { return &fillable{LogStore: inner, full: full} }
	n := startNode(t, "n1", cfg)
	n.bootstrap(t)
	n.lead(t)
	n.apply(t, 1)
	close(full)
	err := n.raft.Apply([]byte("x"), time.Second).Error()
	for _, safe := range []error{nil, raft.ErrNotLeader, raft.ErrEnqueueTimeout, raft.ErrLeadershipTransferInProgress} {
		if errors.Is(err, safe) {
			t.Fatalf("an append that failed was answered with %v", err)
		}
	}
	if err := <-fatal; !errors.Is(err, errDisk) {
		t.Fatalf("fatal with %v", err)
	}
}

// fillable is a disk that becomes full.
type fillable struct {
	raft.LogStore
	full <-chan struct{}
}

func (f *fillable) IsMonotonic() bool { return isMonotonic(f.LogStore) }

func (f *fillable) StoreLogs(logs []*raft.Log) error {
	select {
	case <-f.full:
		return errDisk
	default:
		return f.LogStore.StoreLogs(logs)
	}
}

func wantOneReport(t *testing.T, fatal <-chan error) {
	t.Helper()
	select {
	case err := <-fatal:
		t.Fatalf("reported twice: %v", err)
	default:
	}
}
