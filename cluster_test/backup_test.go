package cluster_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/cluster_test/harness"
)

// An old backup is restored while tokens are drawn, twice, and nodes crash right afterwards. Whatever the backup does not know of has been
// given and seen, and none of it comes again.
func TestBackup_RestoreOfAnOldBackupIssuesNoTokenTwice(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Options{})
	tokens := &ledger{}
	ctx, cancel := context.WithCancel(t.Context())
	var drawers sync.WaitGroup
	t.Cleanup(func() { cancel(); drawers.Wait() })
	for _, n := range c.Nodes {
		session := openSession(c, longSession)
		drawers.Go(func() { tokens.draw(ctx, c, n, session) })
	}
	more := func() {
		t.Helper()
		before := tokens.count()
		harness.Eventually(t, loadRetry, "more tokens", func() error { return enough(tokens.count()-before, acksMin) })
	}
	more()
	old := c.Backup(c.Follower())
	for round := range 2 {
		more()
		late := openSession(c, longSession)
		seen := tokens.highest()
		restored := restore(t, c, c.Follower(), old)
		if restored.Token <= seen {
			t.Errorf("the restore went to token %d, %d had been seen", restored.Token, seen)
		}
		if !gone(t, c, late) {
			t.Error("a session that the backup does not know is alive")
		}
		leader := c.Leader()
		leader.Kill()
		more()
		leader.Start()
		c.AwaitReady(leader)
		if round == 0 {
			for _, n := range c.Nodes {
				n.Kill()
			}
			for _, n := range c.Nodes {
				n.Start()
			}
			c.AwaitReady()
		}
		c.AwaitWhole()
		more()
		if token := tokens.take(c, openSession(c, longSession), "after the restore"); token <= restored.Token {
			t.Errorf("token %d after a restore that went to %d", token, restored.Token)
		}
	}
	cancel()
	drawers.Wait()
	tokens.check(t)
	c.AwaitSameState()
}

// What the backup holds is there again, what came after it is not; sessions have a TTL from the restore on, and end after it.
func TestBackup_RestoreBringsBackLocksForAsLongAsTheirSessionsLive(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Options{})
	tokens := &ledger{}
	live := keepAlive(t, c, tokens, holderTTL)
	dead := openSession(c, holderTTL)
	token := tokens.take(c, dead, "held")
	backup := c.Backup(c.Leader())
	if body := backup[:len(backup)-sha256.Size]; !bytes.HasPrefix(body, []byte("QUIESCE BACKUP 1\n{")) || sha256.Sum256(body) != [sha256.Size]byte(backup[len(body):]) {
		t.Error("the backup cannot be checked as its documentation says")
	}
	release(c, dead, "held", token)
	acquire(c, live.session, "later")

	begun := time.Now()
	restore(t, c, c.Follower(), backup)
	done := time.Now()
	if held := locksUnder(c, ""); held["held"].Name == "" || held["later"].Name != "" {
		t.Errorf("restored: %+v", held)
	}
	waiting := park(t, c, c.Follower(), live.session, "held")
	waiting.await(t, 2*holderTTL+lateBy+grantWithin)
	if took := time.Since(begun); took < holderTTL {
		t.Errorf("a session of the backup with a TTL of %s ended %s after the restore began", holderTTL, took)
	}
	if took := time.Since(done); took > 2*holderTTL+lateBy {
		t.Errorf("a session of the backup with a TTL of %s ended %s after the restore", holderTTL, took)
	}
	live.end()
	tokens.note(waiting.token, "held", tokens.highest())
	tokens.check(t)
	c.AwaitSameState()
}

func TestBackup_DamagedOneIsRefusedWhole(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Options{})
	openSession(c, longSession)
	backup := c.Backup(c.Leader())
	before, err := c.Status()
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(backup)
	damaged[len(damaged)/2] ^= 1
	for name, b := range map[string][]byte{"damaged": damaged, "cut": backup[:len(backup)-1]} {
		answer, err := c.Restore(c.Follower(), b)
		if err != nil || answer.Problem().Code != api.CodeBackupDamaged {
			t.Errorf("%s: %d %s %v", name, answer.Status, answer.Body, err)
		}
	}
	if after, err := c.Status(); err != nil || after.Index != before.Index {
		t.Errorf("a refused restore moved the revision from %d to %d (%v)", before.Index, after.Index, err)
	}
}

func restore(t *testing.T, c *harness.Cluster, through *harness.Node, backup []byte) api.Restored {
	t.Helper()
	answer, err := c.Restore(through, backup)
	var out api.Restored
	if err == nil {
		err = answer.Into(&out)
	}
	if err != nil || answer.Status != http.StatusOK {
		t.Fatalf("restore through %s: %v", through.ID, err)
	}
	return out
}
