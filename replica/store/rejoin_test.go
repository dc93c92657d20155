package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
)

// A follower whose tail contradicts the snapshot it was given, in each shape such a log can have.
func TestRejoin_DropsOnlyALogThatCannotHoldAcknowledgedEntries(t *testing.T) {
	t.Parallel()
	const index, term = 10, 3
	cases := map[string]struct {
		logs []*raft.Log
		want error
	}{
		"tail of an older term after the snapshot": {entries(11, 30, 2), nil},
		"other history through the snapshot":       {entries(5, 30, 2), nil},
		"log ends before the snapshot":             {entries(5, 9, 2), nil},
		"empty log":                                {nil, nil},
		"tail of the snapshot's term":              {entries(11, 30, 3), ErrRejoin},
		"same history through the snapshot":        {entries(5, 30, 3), ErrRejoin},
	}
	eachKind(t, func(t *testing.T, kind Kind) {
		for name, c := range cases {
			t.Run(name, func(t *testing.T) {
				cfg := testConfig(t, t.TempDir(), kind)
				s := openIn(t, cfg)
				if c.logs != nil {
					noError(t, s.Logs().StoreLogs(c.logs))
				}
				noError(t, s.Stable().SetUint64([]byte("CurrentTerm"), 7))
				vote(t, s, 7, "n3")
				takeSnapshot(t, s, index, term, "state")
				noError(t, s.MarkRejoin())
				noError(t, s.Close())
				wantRejoin(t, cfg, c.want)
			})
		}
	})
}

func wantRejoin(t *testing.T, cfg Config, want error) {
	t.Helper()
	s, err := Open(cfg)
	if !errors.Is(err, want) {
		t.Fatalf("got %v, want %v", err, want)
	}
	_, statErr := os.Stat(filepath.Join(cfg.Dir, rejoinFile))
	if want != nil {
		if statErr != nil {
			t.Fatal("the marker is gone although nothing was done")
		}
		return
	}
	defer func() { noError(t, s.Close()) }()
	if statErr == nil {
		t.Fatal("the marker stays: the next start would drop the log again")
	}
	wantBounds(t, s, 0, 0)
	wantVote(t, s, 7, "n3")
	if got := value(s.Stable().GetUint64([]byte("CurrentTerm")))(t); got != 7 {
		t.Fatalf("term %d: an old term lets this node vote twice", got)
	}
	if id := value(s.newestSnapshot())(t); id == "" {
		t.Fatal("the snapshot is gone")
	}
}

func TestRejoin_NeedsASnapshot(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, t.TempDir(), BoltDB)
	s := openIn(t, cfg)
	noError(t, s.Logs().StoreLogs(entries(1, 5, 1)))
	noError(t, s.MarkRejoin())
	noError(t, s.Close())
	if _, err := Open(cfg); !errors.Is(err, ErrRejoin) {
		t.Fatalf("rejoin without a snapshot: %v", err)
	}
}
