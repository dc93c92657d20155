package store

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
)

func takeSnapshot(t *testing.T, s *Stores, index, term uint64, content string) string {
	t.Helper()
	_, trans := raft.NewInmemTransport("")
	sink := value(s.Snapshots().Create(1, index, term, raft.Configuration{}, 1, trans))(t)
	_, err := io.WriteString(sink, content)
	noError(t, err)
	noError(t, sink.Close())
	return sink.ID()
}

func TestLoadNewest_LoadsTheNewest(t *testing.T) {
	t.Parallel()
	s := openIn(t, testConfig(t, t.TempDir(), WAL))
	noError(t, s.LoadNewest(func(io.Reader) error { return errors.New("there is none") }))
	takeSnapshot(t, s, 9, 2, "old")
	takeSnapshot(t, s, 10, 2, "new")
	var got string
	noError(t, s.LoadNewest(func(r io.Reader) error {
		raw, err := io.ReadAll(r)
		got = string(raw)
		return err
	}))
	if got != "new" {
		t.Fatalf("checked %q", got)
	}
	if err := s.LoadNewest(func(io.Reader) error { return errDisk }); !errors.Is(err, ErrSnapshotDamaged) || !errors.Is(err, errDisk) {
		t.Fatalf("failed check: %v", err)
	}
}

func TestLoadNewest_NeverFallsBackToAnOlderSnapshot(t *testing.T) {
	t.Parallel()
	spoil := map[string]func(t *testing.T, dir string){
		"state changed": func(t *testing.T, dir string) {
			noError(t, os.WriteFile(filepath.Join(dir, "state.bin"), []byte("nEw"), 0o600))
		},
		"meta cut off": func(t *testing.T, dir string) { noError(t, os.Truncate(filepath.Join(dir, "meta.json"), 10)) },
		"meta gone":    func(t *testing.T, dir string) { noError(t, os.Remove(filepath.Join(dir, "meta.json"))) },
		"state gone":   func(t *testing.T, dir string) { noError(t, os.Remove(filepath.Join(dir, "state.bin"))) },
	}
	for name, damage := range spoil {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(t, t.TempDir(), WAL)
			s := openIn(t, cfg)
			takeSnapshot(t, s, 9, 2, "old")
			newest := takeSnapshot(t, s, 10, 2, "new")
			damage(t, filepath.Join(cfg.Dir, "raft", "snapshots", newest))
			s = reopen(t, s, cfg)
			err := s.LoadNewest(func(r io.Reader) error { _, err := io.Copy(io.Discard, r); return err })
			if !errors.Is(err, ErrSnapshotDamaged) {
				t.Fatalf("damaged newest snapshot: %v", err)
			}
		})
	}
}

func TestOpen_RemovesHalfWrittenSnapshots(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, t.TempDir(), WAL)
	s := openIn(t, cfg)
	_, trans := raft.NewInmemTransport("")
	sink := value(s.Snapshots().Create(1, 5, 1, raft.Configuration{}, 1, trans))(t)
	_, err := io.WriteString(sink, "half")
	noError(t, err)
	cfg.Dir = crashed(t, cfg.Dir)
	noError(t, sink.Cancel())
	s = openIn(t, cfg)
	left := value(os.ReadDir(s.path(snapsDir)))(t)
	if len(left) != 0 {
		t.Fatalf("left over: %v", left)
	}
	noError(t, s.LoadNewest(nil))
}
