package client

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
)

func TestRun_SIGTERMUnderLoadCutsAndRefusesNothing(t *testing.T) {
	coordinator, addr := start(t)
	first, second := startChild(t, roleApp, "first", addr), startChild(t, roleApp, "second", addr)
	l := startLoad(t, first.addr, second.addr)
	for round := range 3 {
		eventually(t, "requests are served", func() bool { return l.ok.Load() > int64(500*(round+1)) })
		first.signal(syscall.SIGTERM)
		if code := first.exitsWithin(childGrace); code != ExitClean {
			t.Errorf("exit code %d", code)
		}
		l.end()
		t.Logf("round %d: ok %d, gated %d, refused %d, cut %d", round, l.ok.Load(), l.gated.Load(), l.refused.Load(), l.cut.Load())
		if l.refused.Load() != 0 || l.cut.Load() != 0 {
			t.Errorf("refused %d, cut %d", l.refused.Load(), l.cut.Load())
		}
		first, second = second, startChild(t, roleApp, fmt.Sprintf("again-%d", round), addr)
		l = startLoad(t, first.addr, second.addr)
		l.ok.Store(int64(500 * (round + 1)))
	}
	gone := coordinator.Instances()[0]
	want := []string{"lameduck", "reject", "consumers", "transactions", "flush", "locks", "close", "leave"}
	if phases := slices.Compact(gone.Phases); gone.State != api.StateLeft || !slices.Equal(phases, want) || gone.Overdraft {
		t.Errorf("the coordinator saw %+v, want state left after %v", gone, want)
	}
}

// The control shows that the load above would see requests that are lost.
func TestRun_ControlShutdownAtOnceLosesRequests(t *testing.T) {
	stays := startChild(t, roleNaive, "stays", "")
	for round := range 20 {
		goes := startChild(t, roleNaive, "goes", "")
		l := startLoad(t, stays.addr, goes.addr)
		eventually(t, "requests are served", func() bool { return l.ok.Load() > 200 })
		goes.signal(syscall.SIGTERM)
		goes.exitsWithin(10 * time.Second)
		l.end()
		if lost := l.refused.Load() + l.cut.Load(); lost > 0 {
			t.Logf("round %d: ok %d, refused %d, cut %d", round, l.ok.Load(), l.refused.Load(), l.cut.Load())
			return
		}
	}
	t.Error("20 rounds without a loss: the harness is blind")
}

func TestRun_SecondSignalEndsItAtOnce(t *testing.T) {
	for _, tc := range []struct {
		name   string
		second os.Signal
		code   int
	}{{"SIGTERM", syscall.SIGTERM, 143}, {"SIGINT", syscall.SIGINT, 130}} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			coordinator, addr := start(t)
			c := startChild(t, roleStuck, "stuck", addr)
			conn := sendStuck(t, c.addr)
			defer conn.Close()
			c.signal(syscall.SIGTERM)
			eventually(t, "phase reject", func() bool { return slices.Contains(coordinator.Instances()[0].Phases, "reject") })
			reports := len(coordinator.Instances()[0].Phases)
			c.signal(tc.second)
			if code := c.exitsWithin(2 * time.Second); code != tc.code { // one is promised, one is for a loaded machine
				t.Errorf("exit code %d, want %d", code, tc.code)
			}
			if v := coordinator.Instances()[0]; len(v.Phases) <= reports || v.State == api.StateLeft {
				t.Errorf("no last report: %+v", v)
			}
		})
	}
}

// sendStuck opens a connection with a request that is never answered.
func sendStuck(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("GET /stuck HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestRun_WorkThatNeverEndsIsLeftOverWithinTheGrace(t *testing.T) {
	t.Parallel()
	coordinator, addr := start(t)
	c := startChild(t, roleStuck, "stuck", addr)
	conn := sendStuck(t, c.addr)
	defer conn.Close()
	c.signal(syscall.SIGTERM)
	if code := c.exitsWithin(childGrace); code != ExitLeftovers {
		t.Errorf("exit code %d, want %d", code, ExitLeftovers)
	}
	if v := coordinator.Instances()[0]; v.State != api.StateLeft {
		t.Errorf("did not say that it left: %+v", v)
	}
}

func TestRun_WithoutCoordinatorStartsServesAndLeaves(t *testing.T) {
	t.Parallel()
	c := startChild(t, roleApp, "alone", "127.0.0.1:1")
	response, err := http.Post("http://"+c.addr+"/work", "text/plain", strings.NewReader("payload"))
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", response, err)
	}
	_ = response.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	c.signal(syscall.SIGTERM)
	if code := c.exitsWithin(childGrace); code != ExitClean {
		t.Errorf("exit code %d", code)
	}
}

func TestRun_CoordinatorThatHangsDoesNotHoldUpTheDrain(t *testing.T) {
	t.Parallel()
	coordinator, addr := start(t)
	c := startChild(t, roleApp, "hung", addr)
	coordinator.Hang()
	c.signal(syscall.SIGTERM)
	if code := c.exitsWithin(childGrace); code != ExitClean {
		t.Errorf("exit code %d", code)
	}
}

func TestRun_TwoAtOnceLeaveOneAfterTheOther(t *testing.T) {
	t.Parallel()
	coordinator, addr := start(t)
	first, second := startChild(t, roleApp, "first", addr), startChild(t, roleApp, "second", addr)
	eventually(t, "both are ready", func() bool {
		all := coordinator.Instances()
		return all[0].State == api.StateReady && all[1].State == api.StateReady
	})
	first.signal(syscall.SIGTERM)
	eventually(t, "the first drains", func() bool { return coordinator.Instances()[0].State == api.StateDraining })
	second.signal(syscall.SIGTERM)
	eventually(t, "the second waits", func() bool { return coordinator.Instances()[1].State == api.StateQueued })
	response, err := http.Get("http://" + second.addr + "/readyz")
	if err != nil || response.StatusCode != http.StatusOK {
		t.Errorf("an instance in the queue must serve on: %v, %v", response, err)
	}
	_ = response.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if a, b := first.exitsWithin(childGrace), second.exitsWithin(2*childGrace); a != ExitClean || b != ExitClean {
		t.Errorf("exit codes %d and %d", a, b)
	}
	for _, v := range coordinator.Instances() {
		if v.State != api.StateLeft || v.Overdraft {
			t.Errorf("%+v", v)
		}
	}
}
