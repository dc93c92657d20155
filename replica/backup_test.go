package replica_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/replica"
	"github.com/quiescehq/quiesce/replica/store"
)

func (c *cluster) backup(n *node) []byte {
	c.t.Helper()
	b, err := n.Backup(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	var out bytes.Buffer
	if err := b.Write(&out); err != nil {
		c.t.Fatal(err)
	}
	return out.Bytes()
}

func (c *cluster) restore(n *node, backup []byte) replica.Restored {
	c.t.Helper()
	out, err := n.Restore(c.t.Context(), bytes.NewReader(backup), replica.RestoreOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

// sameEverywhere waits until the nodes that run have applied the same, and fails unless their states are the same then.
func (c *cluster) sameEverywhere() {
	c.t.Helper()
	eventually(c.t, "the same entries everywhere", func() (bool, string) {
		st := c.leader().Status(c.t.Context())
		for _, n := range st.Nodes {
			switch {
			case n.Status == "alive" && n.Applied != st.Applied:
				return false, fmt.Sprintf("%+v", st.Nodes)
			case n.Status == "alive" && n.Digest != st.Digest:
				c.t.Fatalf("the states differ at one index: %+v", st.Nodes)
			}
		}
		return true, ""
	})
}

func (c *cluster) take(n *node, name string) uint64 {
	return c.must(n, acquire("a", name))[0].Lock.Grants[0].Token
}

func TestRestore_BackupTakesThePlaceOfTheStateOnEveryNode(t *testing.T) {
	t.Parallel()
	for _, kind := range []store.Kind{store.WAL, store.BoltDB} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 3, nil)
			c.kind = kind
			c.startAll()
			lead := c.leader()
			c.must(lead, open("a"))
			c.take(lead, "before")
			backup := c.backup(lead)
			c.must(lead, open("b"))
			last := c.take(lead, "after")
			was := lead.Status(t.Context())

			got := c.restore(lead, backup)
			if got.Token < last+fsm.RestoreTokenJump || got.Revision <= was.Revision || got.Sessions != 1 || got.Locks != 1 || got.Of.Cluster != was.ClusterID {
				t.Errorf("after token %d and revision %d: %+v", last, was.Revision, got)
			}
			leases, err := lead.Keepalive(t.Context(), []string{"a", "b"})
			if err != nil || leases[0].Gone || !leases[1].Gone {
				t.Errorf("keepalives after the restore: %+v %v", leases, err)
			}
			if token := c.take(lead, "anew"); token <= got.Token {
				t.Errorf("token %d after %d", token, got.Token)
			}
			c.sameEverywhere()
			for _, n := range c.nodes {
				c.stop(n)
			}
			c.startAll()
			c.leader().View(func(s *fsm.State) {
				before, after, anew := s.Holders("before"), s.Holders("after"), s.Holders("anew")
				if before != 1 || after != 0 || anew != 1 || s.Token() <= got.Token {
					t.Errorf("after a restart: holders of before %d, after %d, anew %d, token %d", before, after, anew, s.Token())
				}
			})
			c.sameEverywhere()
		})
	}
}

// A follower that was down finds a log that does not go on from its own.
func TestRestore_NodeThatWasDownFollows(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	c.startAll()
	lead, down := c.leader(), c.follower()
	c.must(lead, open("a"))
	backup := c.backup(lead)
	c.stop(down)
	c.take(lead, "after")
	c.restore(lead, backup)
	c.take(lead, "anew")
	c.ready(c.start(down.id))
	c.sameEverywhere()
}

// What is under way while a backup is restored is applied or not, and no token is given twice.
func TestRestore_UnderLoadGivesNoTokenTwice(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	c.startAll()
	lead := c.leader()
	c.must(lead, open("a"))
	backup := c.backup(lead)
	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	var mu sync.Mutex
	given, high := map[uint64]string{}, uint64(0)
	for w := range 8 {
		load.Go(func() {
			pace := time.NewTicker(2 * time.Millisecond) // refusals come at once, and would starve the cluster
			defer pace.Stop()
			for i := 0; ctx.Err() == nil; i++ {
				<-pace.C
				name := fmt.Sprintf("%d/%d", w, i)
				results, err := lead.Propose(ctx, acquire("a", name))
				if err != nil {
					continue
				}
				mu.Lock()
				token := results[0].Lock.Grants[0].Token
				if other := given[token]; other != "" {
					t.Errorf("token %d was given for %s and for %s", token, other, name)
				}
				given[token], high = name, max(high, token)
				mu.Unlock()
			}
		})
	}
	enough := func(n int) {
		eventually(t, "load", func() (bool, string) {
			mu.Lock()
			defer mu.Unlock()
			return len(given) >= n, fmt.Sprint(len(given), " of ", n)
		})
	}
	enough(50)
	for range 3 {
		mu.Lock()
		before := high
		mu.Unlock()
		if got := c.restore(lead, backup); got.Token <= before {
			t.Errorf("the restore went to token %d, %d had been given", got.Token, before)
		}
		mu.Lock()
		n := len(given)
		mu.Unlock()
		enough(n + 50)
	}
	cancel()
	load.Wait()
	t.Logf("%d tokens", len(given))
	c.sameEverywhere()
}

// A session of the backup lives for its TTL from the restore on, and not much longer when nobody keeps it.
func TestRestore_SessionsEndTheirTTLAfterIt(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	c.startAll()
	lead := c.leader()
	c.must(lead, fsm.Op{Command: fsm.OpenSession{ID: "dead", TTLMs: 2000}}, fsm.Op{Command: fsm.OpenSession{ID: "kept", TTLMs: 2000}})
	backup := c.backup(lead)
	c.must(lead, fsm.Op{Command: fsm.CloseSession{ID: "dead"}})
	begun := time.Now()
	c.restore(lead, backup)
	restored := time.Now()
	eventually(t, "the session to end that nobody keeps", func() (bool, string) {
		now := c.leader()
		if leases, err := now.Keepalive(t.Context(), []string{"kept"}); err == nil && leases[0].Gone {
			t.Fatal("the kept session ended")
		}
		lives := false
		now.View(func(s *fsm.State) { _, lives = s.Session("dead") })
		return !lives, "it lives"
	})
	if took := time.Since(begun); took < 2*time.Second {
		t.Errorf("a session with a TTL of 2 s ended %s after the restore began", took)
	}
	if took := time.Since(restored); took > 4*time.Second {
		t.Errorf("a session with a TTL of 2 s ended %s after the restore", took)
	}
}

func TestRestore_RefusedChangesNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	c.startAll()
	lead := c.leader()
	c.must(lead, open("a"))
	backup := c.backup(lead)
	digest := lead.Status(t.Context()).Digest
	for name, tc := range map[string]struct {
		stream []byte
		code   string
	}{
		"cut":   {backup[:len(backup)-1], replica.CodeBackupDamaged},
		"empty": {nil, replica.CodeBackupDamaged},
		"newer": {bytes.Replace(backup, []byte("BACKUP 1"), []byte("BACKUP 9"), 1), replica.CodeBackupNewer},
	} {
		_, err := lead.Restore(t.Context(), bytes.NewReader(tc.stream), replica.RestoreOptions{})
		if refused := (*replica.RefusedError)(nil); !errors.As(err, &refused) || refused.Code != tc.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	if out, err := lead.Restore(t.Context(), bytes.NewReader(backup), replica.RestoreOptions{DryRun: true}); err != nil || out.Token < fsm.RestoreTokenJump || out.Sessions != 1 {
		t.Errorf("a dry run: %+v %v", out, err)
	}
	if _, err := c.follower().Restore(t.Context(), bytes.NewReader(backup), replica.RestoreOptions{}); !errors.Is(err, replica.ErrNotApplied) {
		t.Errorf("at a follower: %v", err)
	}
	if _, err := c.follower().Backup(t.Context()); !errors.Is(err, replica.ErrNotApplied) {
		t.Errorf("a backup of a follower: %v", err)
	}
	if now := lead.Status(t.Context()).Digest; now != digest {
		t.Error("a refused restore changed the state")
	}
}

func TestRestore_OneAtATime(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	c.startAll()
	lead := c.leader()
	backup := c.backup(lead)
	stream, feed := io.Pipe()
	first := make(chan error, 1)
	go func() {
		_, err := lead.Restore(t.Context(), stream, replica.RestoreOptions{})
		first <- err
	}()
	if _, err := feed.Write(backup[:10]); err != nil { // read: the first is under way
		t.Fatal(err)
	}
	var refused *replica.RefusedError
	if _, err := lead.Restore(t.Context(), bytes.NewReader(backup), replica.RestoreOptions{}); !errors.As(err, &refused) || refused.Code != replica.CodeRestoreRunning {
		t.Errorf("a second restore: %v", err)
	}
	go func() { _, _ = feed.Write(backup[10:]); _ = feed.Close() }()
	if err := <-first; err != nil {
		t.Error(err)
	}
}

// onMessage calls a function before a message is logged.
type onMessage struct {
	slog.Handler
	message string
	call    func()
}

func (h onMessage) Enabled(context.Context, slog.Level) bool { return true }

func (h onMessage) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == h.message {
		h.call()
	}
	if !h.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

func (h onMessage) WithAttrs(a []slog.Attr) slog.Handler {
	h.Handler = h.Handler.WithAttrs(a)
	return h
}

// A leader that is cut off in the middle of a restore has a state that the others will never have. It must end, and not come back with it.
func TestRestore_LeaderCutOffInTheMiddleNeverServesWhatOthersLack(t *testing.T) {
	t.Parallel()
	network := newNetwork()
	c := newCluster(t, 3, func(cfg *replica.Config) {
		network.tune(cfg)
		addr := cfg.PeerAddr
		cfg.Logger = slog.New(onMessage{cfg.Logger.Handler(), "restoring a backup", func() { network.isolate(addr) }})
	})
	c.startAll()
	lead := c.leader()
	c.must(lead, open("a"))
	backup := c.backup(lead)
	c.take(lead, "after")
	if _, err := lead.Restore(t.Context(), bytes.NewReader(backup), replica.RestoreOptions{}); err == nil || errors.Is(err, replica.ErrNotApplied) {
		t.Errorf("the outcome of a restore that nobody else heard of: %v", err)
	}
	if err := lead.fault(); !errors.Is(err, replica.ErrRestoreUnfinished) {
		t.Errorf("the node goes on: %v", err)
	}
	c.stop(lead)
	if r, err := replica.Open(c.config(lead.id, lead.dir, lead)); !errors.Is(err, store.ErrRejoin) {
		t.Errorf("it starts again: %v", err)
		_ = r.Close()
	}
	next := c.leader()
	next.View(func(s *fsm.State) {
		if s.Holders("after") != 1 {
			t.Error("the others lost what was acknowledged before a restore that did not take place")
		}
	})
	c.sameEverywhere()
}

// A single node has nobody to differ from.
func TestRestore_SingleNodeGoesOnAfterACrashInTheMiddle(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	c.startAll()
	lead := c.leader()
	c.must(lead, open("a"))
	backup := c.backup(lead)
	c.take(lead, "after")
	c.restore(lead, backup)
	if err := lead.MarkRestoring(1); err != nil {
		t.Fatal(err)
	}
	c.stop(lead)
	c.ready(c.start(lead.id))
	c.take(c.leader(), "anew")
}
