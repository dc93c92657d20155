package cluster_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/cluster_test/harness"
)

const (
	failovers      = 12 // QUIESCE_FAILOVERS asks for another number, and make failovers for 50
	killEvery      = 4  // of the failovers one is a crash, the others hand leadership over
	tokensPerRound = 5
	ledAtLeast     = time.Second // between failovers: time that counts for leases
	failoverTTL    = 3 * time.Second
)

// Leaders change all the time, by kill -9 and by transfer, faster than a lease ends. No token is given twice, whoever is kept alive keeps
// its lock, and who is dead loses it all the same: a new leader must not take it for alive.
func TestFailovers_InARowKeepTheLiveAndEndTheDead(t *testing.T) {
	t.Parallel()
	rounds := failovers
	if text := os.Getenv("QUIESCE_FAILOVERS"); text != "" {
		var err error
		if rounds, err = strconv.Atoi(text); err != nil || rounds < 1 {
			t.Fatalf("QUIESCE_FAILOVERS=%q is no number of failovers", text)
		}
	}
	c := harness.Start(t, harness.Options{})
	tokens := &ledger{}
	ctx, cancel := context.WithCancel(t.Context())
	var drawers sync.WaitGroup
	t.Cleanup(func() { cancel(); drawers.Wait() })
	for _, n := range c.Nodes {
		session := openSession(c, longSession)
		drawers.Go(func() { tokens.draw(ctx, c, n, session) })
	}
	live := keepAlive(t, c, tokens, failoverTTL)
	victim := newMourned(t, c, tokens)
	begun := time.Now()
	kills := 0
	for round := range rounds {
		before := tokens.count()
		if round%killEvery == killEvery-1 {
			kills++
			crash(c)
		} else {
			handOver(t, c)
		}
		led := time.Now()
		harness.Eventually(t, loadRetry, "tokens after a failover", func() error {
			return errors.Join(enough(tokens.count()-before, tokensPerRound), enough(int(time.Since(led)), int(ledAtLeast)))
		})
		victim.look()
		live.check()
	}
	t.Logf("%d failovers in %s, %d of them crashes", rounds, time.Since(begun).Round(time.Millisecond), kills)
	victim.end()
	t.Logf("%d dead holders lost their locks", victim.ended)
	live.end()
	cancel()
	drawers.Wait()
	tokens.check(t)
	c.AwaitReady()
	c.AwaitWhole()
	c.AwaitSameState()
}

func enough(got, want int) error {
	if got < want {
		return errNotEnough{got, want}
	}
	return nil
}

type errNotEnough struct{ got, want int }

func (e errNotEnough) Error() string { return strconv.Itoa(e.got) + " of " + strconv.Itoa(e.want) }

// crash kills the leader, waits for the next, and starts the killed one again.
func crash(c *harness.Cluster) {
	leader := c.Leader()
	leader.Kill()
	c.Leader()
	leader.Start()
	c.AwaitReady(leader)
}

// handOver makes another node the leader, in a new term. A transfer that failed is tried again: another voter may have lagged.
func handOver(t *testing.T, c *harness.Cluster) {
	t.Helper()
	before, err := c.Status()
	if err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, loadRetry, "a transfer of the leadership", func() error {
		if _, err := c.Send(t.Context(), c.Leader(), harness.Request{Method: http.MethodPost, Path: "/v1/cluster/transfer"}); err != nil {
			return err
		}
		now, err := c.Status()
		if err == nil && now.Term <= before.Term {
			err = enough(0, 1)
		}
		return err
	})
}

// mourned is one dead holder after another: the next dies when the last one has lost its lock.
type mourned struct {
	t          *testing.T
	c          *harness.Cluster
	tokens     *ledger
	dead       *dead
	leaderless time.Duration // when it died
	ended      int
}

func newMourned(t *testing.T, c *harness.Cluster, tokens *ledger) *mourned {
	t.Helper()
	m := &mourned{t: t, c: c, tokens: tokens}
	m.next()
	return m
}

func (m *mourned) next() {
	m.t.Helper()
	m.leaderless = m.tokens.leaderless()
	m.dead = leaveDead(m.t, m.c, m.tokens, failoverTTL)
}

// look mourns the dead holder if its end has come, or is overdue.
func (m *mourned) look() {
	m.t.Helper()
	overdue := time.Since(m.dead.after) > 2*m.dead.ttl+m.since()+lateBy
	if overdue || m.dead.heir.granted() {
		m.end()
		m.next()
	}
}

func (m *mourned) since() time.Duration { return m.tokens.leaderless() - m.leaderless }

func (m *mourned) end() {
	m.t.Helper()
	m.dead.awaitEnd(m.since())
	m.ended++
}
