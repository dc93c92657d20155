package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOpen_SecondOpenerIsToldWhoHoldsTheFolder(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, kind Kind) {
		cfg := testConfig(t, t.TempDir(), kind)
		s := openIn(t, cfg)
		_, err := Open(cfg)
		var inUse *InUseError
		if !errors.Is(err, ErrInUse) || !errors.As(err, &inUse) || inUse.PID != os.Getpid() {
			t.Fatalf("second opener: %v", err)
		}
		noError(t, s.Logs().StoreLogs(entries(1, 1, 1))) // the first is not disturbed
		reopen(t, s, cfg)
	})
}

func TestOpen_KeepsIdentityAndClusterID(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, filepath.Join(t.TempDir(), "a", "b"), WAL)
	s := openIn(t, cfg)
	first := s.Identity()
	if first.NodeID != "n1" || len(first.Incarnation) != 2*incarnationBytes || first.ClusterID != "" {
		t.Fatalf("new identity %+v", first)
	}
	info := value(os.Stat(cfg.Dir))(t)
	if info.Mode().Perm() != 0o700 {
		t.Fatalf("folder mode %v", info.Mode())
	}
	noError(t, s.SetClusterID("c1"))
	noError(t, s.SetClusterID("c1"))
	if err := s.SetClusterID("c2"); !errors.Is(err, ErrClusterID) {
		t.Fatalf("another cluster: %v", err)
	}
	cfg.NodeID = "" // known from the folder
	s = reopen(t, s, cfg)
	first.ClusterID = "c1"
	if s.Identity() != first {
		t.Fatalf("identity %+v, want %+v", s.Identity(), first)
	}
}

func TestOpen_TwoFoldersHaveTwoIncarnations(t *testing.T) {
	t.Parallel()
	a, b := openIn(t, testConfig(t, t.TempDir(), WAL)), openIn(t, testConfig(t, t.TempDir(), WAL))
	if a.Identity().Incarnation == b.Identity().Incarnation {
		t.Fatal("a wiped node would pass for its former self")
	}
}

func TestOpen_RefusesWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	remove := func(name string) func(*testing.T, *Config) {
		return func(t *testing.T, cfg *Config) { noError(t, os.RemoveAll(filepath.Join(cfg.Dir, name))) }
	}
	content := func(text string) func(*testing.T, *Config) {
		return func(t *testing.T, cfg *Config) {
			noError(t, os.WriteFile(filepath.Join(cfg.Dir, identityFile), []byte(text), 0o600))
		}
	}
	for name, c := range map[string]struct {
		spoil func(*testing.T, *Config)
		want  error
		says  string
	}{
		"another node":      {func(_ *testing.T, cfg *Config) { cfg.NodeID = "n2" }, ErrNodeID, `is node "n1"'s`},
		"other log store":   {func(_ *testing.T, cfg *Config) { cfg.LogStore = BoltDB }, ErrLogStore, `was made with "wal"`},
		"identity cut off":  {content(`{"format":1,"node_`), ErrDamaged, "is not valid JSON"},
		"identity empty":    {content(`{"format":1}`), ErrDamaged, "lacks node_id"},
		"identity of later": {content(`{"format":2}`), ErrDamaged, "format 2"},
		"identity gone":     {remove(identityFile), ErrDamaged, "holds raft state but no node.json"},
		"votes gone":        {remove("raft/stable.db"), ErrDamaged, "stable.db"},
		"log gone":          {remove("raft/wal"), ErrDamaged, "wal"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(t, t.TempDir(), WAL)
			s := openIn(t, cfg)
			noError(t, s.Stable().SetUint64([]byte("CurrentTerm"), 1))
			noError(t, s.Close())
			c.spoil(t, &cfg)
			_, err := Open(cfg)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("got %v, want one sentence saying %q", err, c.says)
			}
		})
	}
}

func TestOpen_DamagedDatabaseIsASentenceNotAPanic(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"raft/stable.db", "raft/wal/wal-meta.db"} {
		cfg := testConfig(t, t.TempDir(), WAL)
		noError(t, openIn(t, cfg).Close())
		noError(t, os.WriteFile(filepath.Join(cfg.Dir, name), []byte(strings.Repeat("garbage ", 4096)), 0o600))
		if _, err := Open(cfg); !errors.Is(err, ErrDamaged) {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

func TestOpen_CrashWhileFoundingIsNoDamage(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, kind Kind) {
		cfg := testConfig(t, t.TempDir(), kind)
		s := openIn(t, cfg)
		noError(t, os.Remove(filepath.Join(cfg.Dir, identityFile))) // it is the last thing written
		cfg.Dir = crashed(t, cfg.Dir)
		if again := openIn(t, cfg); again.Identity().Incarnation == s.Identity().Incarnation {
			t.Fatal("an identity out of nothing")
		}
	})
}

func TestOpen_FailedOpenLeavesTheFolderFree(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, t.TempDir(), WAL)
	noError(t, openIn(t, cfg).Close())
	wrong := cfg
	wrong.NodeID = "n2"
	if _, err := Open(wrong); err == nil {
		t.Fatal("opened")
	}
	openIn(t, cfg)
}

func TestHasState_OnlyAfterRaftHasRun(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, kind Kind) {
		s := openIn(t, testConfig(t, t.TempDir(), kind))
		if value(s.HasState())(t) {
			t.Fatal("a new folder has state")
		}
		noError(t, s.Stable().SetUint64([]byte("CurrentTerm"), 1))
		if !value(s.HasState())(t) {
			t.Fatal("a term is state")
		}
	})
}

func TestOpenMemory_IsTheSameWithoutAFolder(t *testing.T) {
	t.Parallel()
	s := value(OpenMemory(testConfig(t, "", "")))(t)
	noError(t, s.SetClusterID("c1"))
	noError(t, s.Logs().StoreLogs(entries(1, 3, 1)))
	vote(t, s, 2, "n1")
	wantVote(t, s, 2, "n1")
	wantBounds(t, s, 1, 3)
	noError(t, s.LoadNewest(nil))
	noError(t, s.Close())
}
