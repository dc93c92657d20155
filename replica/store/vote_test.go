package store

import (
	"testing"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

func vote(t *testing.T, s *Stores, term uint64, candidate string) {
	t.Helper()
	noError(t, s.Stable().SetUint64([]byte(keyVoteTerm), term))
	noError(t, s.Stable().Set([]byte(keyVoteCand), []byte(candidate)))
}

func wantVote(t *testing.T, s *Stores, term uint64, candidate string) {
	t.Helper()
	gotTerm := value(s.Stable().GetUint64([]byte(keyVoteTerm)))(t)
	got := value(s.Stable().Get([]byte(keyVoteCand)))(t)
	if gotTerm != term || string(got) != candidate {
		t.Fatalf("vote is for %q in term %d, want %q in term %d", got, gotTerm, candidate, term)
	}
}

func TestVote_CrashBetweenTermAndCandidateLeavesTheOldVote(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, t.TempDir(), WAL)
	s := openIn(t, cfg)
	vote(t, s, 3, "old")
	noError(t, s.Stable().SetUint64([]byte(keyVoteTerm), 4))
	cfg.Dir = crashed(t, cfg.Dir)
	wantVote(t, openIn(t, cfg), 3, "old")

	noError(t, s.Stable().Set([]byte(keyVoteCand), []byte("new")))
	wantVote(t, s, 4, "new")
}

// The negative control: without the record, the same crash gives term 4 to the candidate of term 3.
func TestVote_BareStoreTearsTheVote(t *testing.T) {
	t.Parallel()
	bare := value(raftboltdb.NewBoltStore(t.TempDir() + "/stable.db"))(t)
	defer func() { noError(t, bare.Close()) }()
	noError(t, bare.SetUint64([]byte(keyVoteTerm), 3))
	noError(t, bare.Set([]byte(keyVoteCand), []byte("old")))
	noError(t, bare.SetUint64([]byte(keyVoteTerm), 4))
	if candidate := value(bare.Get([]byte(keyVoteCand)))(t); string(candidate) != "old" {
		t.Fatal("the trap is gone: the wrapper may go too")
	}
}

func TestVote_AbsentIsWhatRaftTakesForAbsent(t *testing.T) {
	t.Parallel()
	s := openIn(t, testConfig(t, t.TempDir(), WAL))
	_, termErr := s.Stable().GetUint64([]byte(keyVoteTerm))
	_, candErr := s.Stable().Get([]byte(keyVoteCand))
	for _, err := range []error{termErr, candErr} {
		if err == nil || err.Error() != "not found" {
			t.Fatalf("absent vote: %v", err)
		}
	}
}

// failingStable fails every write of one key.
type failingStable struct {
	raft.StableStore
	key string
}

func (f failingStable) Set(key, val []byte) error {
	if string(key) == f.key {
		return errDisk
	}
	return f.StableStore.Set(key, val)
}

func TestVote_FailedWriteIsFatalAndLeavesTheOldVote(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, t.TempDir(), WAL)
	s := openIn(t, cfg)
	vote(t, s, 3, "old")
	noError(t, s.Close())

	broken, fatal := cfg, make(chan error, 2)
	broken.OnFatal = func(err error) { fatal <- err }
	broken.WrapStable = func(inner raft.StableStore) raft.StableStore { return failingStable{inner, keyVote} }
	s = openIn(t, broken)
	noError(t, s.Stable().SetUint64([]byte(keyVoteTerm), 4))
	if err := s.Stable().Set([]byte(keyVoteCand), []byte("new")); err == nil {
		t.Fatal("a vote that was not stored was given")
	}
	if err := <-fatal; err == nil {
		t.Fatal("not fatal")
	}
	noError(t, s.Close())
	wantVote(t, openIn(t, cfg), 3, "old")
}
