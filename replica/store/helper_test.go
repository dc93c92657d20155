package store

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testSegmentBytes = 256 << 10

func testConfig(t *testing.T, dir string, kind Kind) Config {
	t.Helper()
	return Config{
		Dir: dir, NodeID: "n1", LogStore: kind, SegmentBytes: testSegmentBytes,
		OnFatal: func(err error) { t.Errorf("unexpected fatal: %v", err) },
		Logger:  slog.New(slog.DiscardHandler),
	}
}

func openIn(t *testing.T, cfg Config) *Stores {
	t.Helper()
	s, err := Open(cfg)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { noError(t, s.Close()) })
	return s
}

func reopen(t *testing.T, s *Stores, cfg Config) *Stores {
	t.Helper()
	noError(t, s.Close())
	return openIn(t, cfg)
}

// crashed copies the folder as a power cut would leave it: without Close.
func crashed(t *testing.T, dir string) string {
	t.Helper()
	copied := filepath.Join(t.TempDir(), "copy")
	noError(t, os.CopyFS(copied, os.DirFS(dir)))
	return copied
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func value[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		noError(t, err)
		return v
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(15 * time.Second)
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("never happened: %s", what)
		case <-ticker.C:
		}
	}
}

func entries(from, to, term uint64) []*raft.Log {
	var logs []*raft.Log
	for i := from; i <= to; i++ {
		logs = append(logs, &raft.Log{Index: i, Term: term, Data: []byte{byte(i)}})
	}
	return logs
}

func eachKind(t *testing.T, test func(t *testing.T, kind Kind)) {
	for _, kind := range []Kind{WAL, BoltDB} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			test(t, kind)
		})
	}
}

// counter is the smallest FSM that can tell a lost entry: it counts them.
type counter struct {
	mu       sync.Mutex
	n        uint64
	restored int
}

func (c *counter) restores() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.restored
}

func (c *counter) Apply(*raft.Log) any {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	return c.n
}

func (c *counter) count() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

func (c *counter) Snapshot() (raft.FSMSnapshot, error) { return image(c.count()), nil }

func (c *counter) Restore(r io.ReadCloser) error {
	raw, err := io.ReadAll(r)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n = uint64(len(raw))
	c.restored++
	return err
}

// image is a snapshot: as many bytes as were counted.
type image uint64

func (i image) Persist(sink raft.SnapshotSink) error {
	if _, err := sink.Write(make([]byte, i)); err != nil {
		return err
	}
	return sink.Close()
}

func (i image) Release() {}
