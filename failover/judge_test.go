package failover

import (
	"testing"
	"time"

	"github.com/quiescehq/quiesce/rediscache"
)

func identity(servers ...rediscache.Server) rediscache.Identity {
	return rediscache.Identity{Life: "x", Servers: servers}
}

func TestJudge_MovedSlotsLoseNothing(t *testing.T) {
	t.Parallel()
	a, b := rediscache.Server{Addr: "a:1", RunID: "ra", ReplID: "pa"}, rediscache.Server{Addr: "b:1", RunID: "rb", ReplID: "pb"}
	if got := judge([]poll{{time.Now(), identity(a)}}, identity(a, b)); !got.none {
		t.Errorf("%+v", got)
	}
	if got := judge([]poll{{time.Now(), identity(a, b)}}, identity(a)); got.none || got.known {
		t.Errorf("a server that is gone: %+v", got)
	}
}

func TestJudge_FailoverReachesBackToWhatTheReplicaHadAcknowledged(t *testing.T) {
	t.Parallel()
	start := time.Now()
	at := func(seconds int, offset int64, acknowledged int64) poll {
		return poll{start.Add(time.Duration(seconds) * time.Second), identity(rediscache.Server{Addr: "a:1", RunID: "ra", ReplID: "p", Offset: offset,
			Replicas: []rediscache.Replica{{Addr: "b:1", Online: true, Offset: acknowledged}}})}
	}
	history := []poll{at(0, 100, 90), at(1, 200, 190), at(2, 300, 250)}
	got := judge(history, identity(rediscache.Server{Addr: "b:1", RunID: "rb", ReplID: "q"}))
	if got.none || !got.known || !got.since.Equal(start.Add(time.Second)) {
		t.Errorf("%+v, want since the look at which the old one was at 200", got)
	}
	for name, now := range map[string]rediscache.Server{"a stranger": {Addr: "c:1", RunID: "rc"}, "the same, which was a replica meanwhile": {Addr: "a:1", RunID: "ra", ReplID: "q"}} {
		if got := judge(history, identity(now)); got.none || got.known {
			t.Errorf("%s: %+v", name, got)
		}
	}
	behind := []poll{at(2, 300, 50)}
	if got := judge(behind, identity(rediscache.Server{Addr: "b:1", RunID: "rb"})); got.known {
		t.Errorf("a replica that is further behind than is remembered: %+v", got)
	}
}

func TestJudge_StreamThatIsNamedAnewWithoutReplicasLosesNothing(t *testing.T) {
	t.Parallel()
	was := rediscache.Server{Addr: "a:1", RunID: "ra", ReplID: "p"}
	if got := judge([]poll{{time.Now(), identity(was)}}, identity(rediscache.Server{Addr: "a:1", RunID: "ra", ReplID: "q"})); !got.none {
		t.Errorf("%+v", got)
	}
}

func TestJudge_TheWorstOfSeveralServersCounts(t *testing.T) {
	t.Parallel()
	now := time.Now()
	saved := func(addr string, ago time.Duration) rediscache.Server {
		return rediscache.Server{Addr: addr, RunID: "r" + addr, ClockMillis: 1_000_000, SavedMillis: 1_000_000 - ago.Milliseconds()}
	}
	history := []poll{{now, identity(saved("a:1", 5*time.Second), saved("b:1", 60*time.Second), rediscache.Server{Addr: "c:1", RunID: "rc", AOF: true, AppendFsync: "always"})}}
	after := identity(rediscache.Server{Addr: "a:1", RunID: "n1"}, rediscache.Server{Addr: "b:1", RunID: "n2"}, rediscache.Server{Addr: "c:1", RunID: "n3"})
	if got := judge(history, after); got.none || !got.known || !got.since.Equal(now.Add(-60*time.Second)) {
		t.Errorf("%+v", got)
	}
	history[0].id.Servers[0].SavedMillis = 0
	if got := judge(history, after); got.known {
		t.Errorf("one of which nothing is known: %+v", got)
	}
}
