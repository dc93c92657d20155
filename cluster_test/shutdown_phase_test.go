package cluster_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/cluster_test/harness"
	"github.com/quiescehq/quiesce/cluster_test/rolling"
	"github.com/quiescehq/quiesce/cluster_test/services"
)

const (
	victimTTL   = 2 * time.Second
	victimGrace = 60 * time.Second // the phases together take 23 s of it: the rest is for announce
	lostWithin  = 2*victimTTL + 2*time.Second
	forcedExit  = 2 * time.Second // one is promised, one is for a loaded machine
	lostHoldMs  = 300
	keptPlaceMs = 600_000
)

// stallable are the phases in which the application for tests can be held up, each at its beginning.
var stallable = []string{"announce", "lameduck", "reject", "consumers", "transactions", "flush", "locks", "close"}

var errOther = errors.New("it is not as it should be")

// victim is an instance that stays in one phase of its drain, for as long as that may last.
type victim struct {
	*rolling.App
	phase, service, id string
	peer               *actor // of the same service, whose budget has one place
}

func (v *victim) String() string { return v.phase }

// newVictims starts an instance for each phase, with a lock of its own and a row that it has not finished.
func newVictims(t *testing.T, c *harness.Cluster, prefix string) []*victim {
	t.Helper()
	dir := t.TempDir()
	victims := make([]*victim, len(stallable))
	for i, phase := range stallable {
		v := &victim{phase: phase, service: prefix + "-" + phase}
		v.declare(t, c)
		v.App = rolling.BeginApp(t, rolling.AppProgram, dir, v.service, append(rolling.Environment(c, victimGrace), "APP_SERVICE="+v.service,
			"QUIESCE_LEASE_TTL="+victimTTL.String(), "APP_HANG="+phase, "APP_LOCKS="+v.service,
			fmt.Sprintf("APP_LEFTOVER=%s,%d", mappingJSON, i))...)
		victims[i] = v
	}
	for _, v := range victims {
		v.id = registeredAs(t, v.App)
	}
	return victims
}

// declare puts the service before there is an instance, which settles for as long as is said when it becomes ready.
func (v *victim) declare(t *testing.T, c *harness.Cluster) {
	t.Helper()
	if err := declare(c, v.service, 1, 0, keptPlaceMs, lostHoldMs); err != nil {
		t.Fatal(err)
	}
}

// enterPhase signals the instance and returns when the log says that it is in its phase.
func (v *victim) enterPhase(ctx context.Context, c *harness.Cluster, b *board) (now api.Instance, err error) {
	if err := v.prepare(ctx, c, b); err != nil {
		return now, err
	}
	if err := v.Signal(syscall.SIGTERM); err != nil {
		return now, err
	}
	return b.awaitOne(v.id, "in phase "+v.phase, seenWithin, func(now api.Instance) bool { return now.Phase == v.phase })
}

// prepare sees to it that the phase will not be over at once.
func (v *victim) prepare(ctx context.Context, c *harness.Cluster, b *board) error {
	if _, err := b.awaitOne(v.id, "to be ready", seenWithin, inState(api.StateReady)); err != nil {
		return err
	}
	peer, err := enter(c, v.service, "peer", longSession)
	if err != nil {
		return err
	}
	v.peer = peer
	switch v.phase {
	case "announce": // the peer takes the place that there is
		return peer.drain(api.IntentRestart)
	case "reject": // a request that does not end by itself
		return v.hold(ctx)
	}
	return nil
}

// hold sends a request that lasts until the instance ends it, and waits until it is being served.
func (v *victim) hold(ctx context.Context) error {
	var addr struct{ Addr string }
	if !v.Line("listening", &addr) {
		return errUnseen
	}
	before := strings.Count(v.Output(), `"msg":"holding"`)
	go func() { // ends with the process, or ctx
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr.Addr+"/hang", nil)
		if err != nil {
			return
		}
		if answer, err := http.DefaultTransport.RoundTrip(request); err == nil {
			_ = answer.Body.Close()
		}
	}()
	return eventually(seenWithin, "the request to be served", func() bool { return strings.Count(v.Output(), `"msg":"holding"`) > before })
}

// eventually is harness.Eventually for any goroutine.
func eventually(within time.Duration, what string, holds func() bool) error {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	limit := time.NewTimer(within)
	defer limit.Stop()
	for !holds() {
		select {
		case <-ticker.C:
		case <-limit.C:
			return fmt.Errorf("%w in %s: %s", errUnseen, within, what)
		}
	}
	return nil
}

// A process is killed in each phase of its drain. The log says where it was lost, its place in the budget and its lock come free, and the row
// that it had reported as unfinished is delivered by the leader.
func TestShutdown_KillInEachPhaseLosesNothing(t *testing.T) {
	t.Parallel()
	pair := services.Require(t)
	c := harness.Start(t, harness.Options{MySQL: pair.MySQLDSN, Redis: pair.RedisAddr})
	w := newTable(t, pair.MySQLDSN, pair.RedisAddr, pair.Prefix)
	w.declare(c)
	for i := range stallable {
		w.put(int64(i), "fresh")
		w.redisDo("SET", w.key(int64(i)), "stale")
	}
	b := watchInstances(t, c)
	victims := newVictims(t, c, "kill")
	together(t, victims, func(v *victim) error {
		if _, err := v.enterPhase(t.Context(), c, b); err != nil {
			return err
		}
		if err := v.Signal(syscall.SIGKILL); err != nil {
			return err
		}
		return v.judgeLoss(c, b, time.Now())
	})
	harness.Eventually(t, settleMax, "the unfinished rows to be delivered", func() error {
		for i, v := range victims {
			var row item
			if text := w.redisGet(w.key(int64(i))); json.Unmarshal([]byte(text), &row) != nil || row.Name != "fresh" {
				return fmt.Errorf("%w: the key of %s holds %q", errOther, v.phase, text)
			}
		}
		return nil
	})
	for _, v := range victims {
		if _, err := b.awaitOne(v.id, "adopted to the end", seenWithin, func(now api.Instance) bool {
			return slices.ContainsFunc(now.Adoption, func(s api.AdoptionStep) bool { return s.Step == "done" })
		}); err != nil {
			t.Errorf("%s: %v", v.phase, err)
		}
	}
	c.AwaitSameState()
}

// judgeLoss holds one loss against what is promised of it.
func (v *victim) judgeLoss(c *harness.Cluster, b *board, killed time.Time) error {
	lost, err := b.awaitOne(v.id, "lost", seenWithin, inState(api.StateLost))
	if err != nil {
		return err
	}
	if took := time.Since(killed); took > lostWithin {
		return fmt.Errorf("%w: lost %s after the kill", errOther, took)
	}
	if !v.wasIn(lost.Phase) {
		return fmt.Errorf("%w: lost in phase %q", errOther, lost.Phase)
	}
	successor := api.Session{}
	if err := request(c, http.MethodPost, "/v1/sessions", api.OpenSession{Name: v.service, TTLMs: uint64(longSession.Milliseconds())}, &successor); err != nil {
		return err
	}
	if err := request(c, http.MethodPost, "/v1/locks/acquire", api.AcquireLocks{Session: successor.ID, Locks: []api.LockWanted{{Name: v.service}}}, nil); err != nil {
		return fmt.Errorf("its lock: %w", err)
	}
	if v.phase == "announce" {
		return nil // the peer has the place
	}
	if err := v.peer.drain(api.IntentRemove); err != nil {
		return err
	}
	_, err = b.awaitOne(v.peer.ID, "the peer to get the place that was kept", seenWithin, inState(api.StateDraining))
	return err
}

// wasIn tells whether the process can have been killed in a phase: the one that it was held up in, or, where the machine let it go on before the
// kill came, one that its own log tells of.
func (v *victim) wasIn(phase string) bool {
	_, begun := phasesBegun(v.App)[phase]
	return phase == v.phase || begun && slices.Index(stallable, phase) > slices.Index(stallable, v.phase)
}

// The second signal ends the process in each phase, and the last that the cluster hears of it is how far it was.
func TestShutdown_SecondSignalEndsItInEachPhase(t *testing.T) {
	t.Parallel()
	pair := services.Require(t)
	c := harness.Start(t, harness.Options{Nodes: 1, MySQL: pair.MySQLDSN, Redis: pair.RedisAddr})
	newTable(t, pair.MySQLDSN, pair.RedisAddr, pair.Prefix).declare(c)
	b := watchInstances(t, c)
	victims := newVictims(t, c, "twice")
	codes := map[os.Signal]int{syscall.SIGTERM: 143, syscall.SIGINT: 130}
	together(t, victims, func(v *victim) error {
		second := syscall.SIGTERM
		if slices.Index(stallable, v.phase)%2 == 0 {
			second = syscall.SIGINT
		}
		before, err := v.enterPhase(t.Context(), c, b)
		if err != nil {
			return err
		}
		signalled := time.Now()
		if err := v.Signal(second); err != nil {
			return err
		}
		if err := eventually(seenWithin, "the end", func() bool { return !v.Running() }); err != nil {
			return err
		}
		took := time.Since(signalled)
		if code := v.Wait(t, time.Second); code != codes[second] || took > forcedExit {
			return fmt.Errorf("%w: exit code %d after %s", errOther, code, took)
		}
		var last api.Instance
		if err := request(c, http.MethodGet, "/v1/instances/"+v.id, nil, &last); err != nil {
			return err
		}
		if last.Index == before.Index || last.Phase != v.phase {
			return fmt.Errorf("%w: there was no last report, it is in phase %q", errOther, last.Phase)
		}
		return nil
	})
}
