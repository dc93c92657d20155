package cluster_test

import (
	"fmt"
	"net/http"
	"strconv"
	"testing"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/cluster_test/harness"
	"github.com/quiescehq/quiesce/cluster_test/services"
)

const (
	rowsMax      = 300
	changesSmall = 300
)

func TestSync_CacheEqualsTheTableThoughTheLeaderIsKilled(t *testing.T) {
	place := services.Require(t)
	w := newTable(t, place.MySQLDSN, place.RedisAddr, place.Prefix)
	w.declare(harness.Start(t, harness.Options{MySQL: place.MySQLDSN, Redis: place.RedisAddr}))
	writers := w.startWriters()
	writers.await(changesSmall)
	leader := w.c.Leader()
	leader.Kill()
	writers.await(changesSmall)
	leader.Start()
	w.c.AwaitReady(leader)
	writers.await(changesSmall)
	w.settle(writers.end())
	w.c.AwaitWhole()
	w.c.AwaitSameState()
}

// While a server is away events are accepted and kept, also over the loss of the leader; when it returns they are delivered.
func TestSync_NothingIsLostWhileAServerIsDown(t *testing.T) {
	pair := services.Own(t)
	for _, server := range []struct {
		name        string
		stop, start func()
	}{
		{"redis", pair.StopRedis, pair.StartRedis},
		{"mysql", pair.KillMySQL, pair.StartMySQL},
	} {
		t.Run(server.name, func(t *testing.T) {
			w := newTable(t, pair.MySQLDSN, pair.RedisAddr, server.name+":")
			w.declare(harness.Start(t, harness.Options{MySQL: pair.MySQLDSN, Redis: pair.RedisAddr}))
			for id := range rowsMax {
				w.put(int64(id), "before")
			}
			w.enqueueAll()
			w.settle(nil)
			for id := range rowsMax {
				w.put(int64(id), "after")
			}
			server.stop()
			w.enqueueAll()
			leader := w.c.Leader()
			leader.Kill()
			if stats := w.stats(); stats.Pending != 2*rowsMax || stats.Dead != 0 {
				t.Errorf("%d events of %d are pending, %d are dead", stats.Pending, 2*rowsMax, stats.Dead)
			}
			leader.Start()
			w.c.AwaitReady(leader)
			server.start()
			w.reconnect()
			w.settle(nil)
		})
	}
}

func TestSync_PassFindsWhatWasPlantedAndRepairsIt(t *testing.T) {
	place := services.Require(t)
	w := newTable(t, place.MySQLDSN, place.RedisAddr, place.Prefix)
	w.declare(harness.Start(t, harness.Options{MySQL: place.MySQLDSN, Redis: place.RedisAddr}))
	for id := range rowsMax {
		w.put(int64(id), "v"+strconv.Itoa(id))
	}
	w.enqueueAll()
	w.settle(nil)
	if clean := w.pass(api.PassDryRun); clean.Counts.Differences != 0 || clean.Counts.Equal != rowsMax {
		t.Errorf("a pass over what agrees counts %+v", clean.Counts)
	}

	w.redisDo("DEL", w.key(3))
	w.redisDo("SET", w.key(77), `{"id":77,"name":"long ago","n":0}`)
	one, other := w.redisGet(w.key(100)), w.redisGet(w.key(101))
	w.redisDo("SET", w.key(100), other)
	w.redisDo("SET", w.key(101), one)

	found := w.pass(api.PassDryRun)
	if found.Counts.Missing != 1 || found.Counts.Stale != 3 || found.Counts.Differences != 4 || found.Counts.Repaired != 0 {
		t.Errorf("a dry run over one missing, one stale and two swapped values counts %+v", found.Counts)
	}
	if found.Expected.Digest == found.Actual.Digest {
		t.Error("the digests of table and cache agree though the values do not")
	}
	if w.redisGet(w.key(100)) != other {
		t.Error("a dry run has changed the cache")
	}
	w.checkDifferences(found.ID, 3, 77, 100, 101)

	if repaired := w.pass(api.PassRewrite); repaired.Counts.Repaired != 4 {
		t.Errorf("a rewrite counts %+v", repaired.Counts)
	}
	w.settle(nil)
	after := w.pass(api.PassDryRun)
	if after.Counts.Differences != 0 || after.Counts.Equal != rowsMax || after.Expected != after.Actual {
		t.Errorf("the pass after the repair counts %+v, table %+v, cache %+v", after.Counts, after.Expected, after.Actual)
	}
}

// pass runs a pass over the JSON mapping to its end.
func (w *table) pass(mode string) api.Pass {
	w.t.Helper()
	var started api.PassStarted
	w.c.Must(harness.Request{Method: http.MethodPost, Path: "/v1/passes", Body: api.StartPass{Mapping: mappingJSON, PassOptions: api.PassOptions{Mode: mode, ConfirmDelayMs: confirmMs}}}, &started)
	var pass api.Pass
	w.c.Await("the pass to end", func() error {
		w.c.Must(harness.Request{Method: http.MethodGet, Path: "/v1/passes/" + strconv.FormatUint(started.ID, 10)}, &pass)
		switch pass.State {
		case "done":
			return nil
		case "running":
			return fmt.Errorf("it runs: %+v", pass)
		}
		w.t.Fatalf("the pass ended as %+v", pass)
		return nil
	})
	return pass
}

func (w *table) checkDifferences(pass uint64, ids ...int64) {
	w.t.Helper()
	var found api.Differences
	w.c.Must(harness.Request{Method: http.MethodGet, Path: fmt.Sprintf("/v1/passes/%d/differences", pass)}, &found)
	wanted := map[string]bool{}
	for _, id := range ids {
		wanted[w.key(id)] = true
	}
	for _, d := range found.Differences {
		if !wanted[d.Key] {
			w.t.Errorf("reported %+v, which was not planted", d)
		}
		delete(wanted, d.Key)
	}
	if len(wanted) != 0 {
		w.t.Errorf("not reported: %v", wanted)
	}
}
