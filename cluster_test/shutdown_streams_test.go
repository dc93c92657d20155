package cluster_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client"
	"github.com/quiescehq/quiesce/cluster_test/harness"
	"github.com/quiescehq/quiesce/cluster_test/rolling"
)

const (
	lateness      = 700 * time.Millisecond // between what a process does and what a loaded machine shows of it
	clientPatient = 30 * time.Second
)

// guest is a client whose connection does not end by itself, and what it is told at its end.
type guest struct {
	name      string
	sends     string
	greeting  string // what it hears at once, up to its last bytes
	farewell  string // what it hears at the end holds this
	from, to  string // phases: it ends after the one has begun, and before the other
	conn      net.Conn
	heard     []byte
	endedAt   time.Time
	endedWith error
}

func (g *guest) String() string { return g.name }

// Whatever a client has open when its instance stops ends with a sign that it can understand, in the phase for it: nobody waits for a connection
// that nobody serves, and nobody who is quiet holds up the drain.
func TestShutdown_EveryKindOfConnectionEndsWithASign(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Options{Nodes: 1})
	b := watchInstances(t, c)
	a, id := startApp(t, c, t.TempDir(), "guests", "host", crowdGrace)
	if _, err := b.awaitOne(id, "to be ready", seenWithin, inState(api.StateReady)); err != nil {
		t.Fatal(err)
	}
	guests := []*guest{
		{name: "server-sent events", sends: get("/events"), greeting: "event: hello\n\n", farewell: "event: goodbye", from: "reject", to: "consumers"},
		{name: "hijacked connection", sends: get("/socket"), greeting: "\r\n\r\n", farewell: "\x88\x02\x03\xe9", from: "reject", to: "consumers"},
		{name: "long poll", sends: get("/poll"), farewell: "HTTP/1.1 503", from: "reject", to: "consumers"},
		{name: "slow body", sends: "POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nslow", farewell: "HTTP/1.1 408", from: "reject", to: "consumers"},
		{name: "idle kept-alive connection", sends: "POST /orders HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", greeting: `{"id":1}`, from: "close", to: "leave"},
		{name: "connection opened in advance", from: "close", to: "leave"},
	}
	for _, g := range guests {
		if err := g.arrive(a); err != nil {
			t.Fatalf("%s: %v", g.name, err)
		}
		t.Cleanup(func() { _ = g.conn.Close() })
	}
	if err := a.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	together(t, guests, (*guest).stay)
	if code := a.Wait(t, crowdGrace+exitTolerance); code != client.ExitClean {
		t.Errorf("exit code %d", code)
	}
	begun := phasesBegun(a)
	for _, g := range guests {
		g.judge(t, begun)
	}
}

func get(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n" }

// arrive connects, sends, and waits for the greeting.
func (g *guest) arrive(a *rolling.App) (err error) {
	if g.conn, err = net.Dial("tcp", strings.TrimPrefix(a.Base, "http://")); err != nil {
		return err
	}
	if err := g.conn.SetDeadline(time.Now().Add(clientPatient)); err != nil {
		return err
	}
	if _, err := io.WriteString(g.conn, g.sends); err != nil {
		return err
	}
	if g.greeting == "" {
		return nil
	}
	in := bufio.NewReaderSize(g.conn, 1)
	for heard := []byte{}; !bytes.Contains(heard, []byte(g.greeting)); {
		one, err := in.ReadByte()
		if err != nil {
			return fmt.Errorf("after %q: %w", heard, err)
		}
		heard = append(heard, one)
	}
	g.heard, err = in.Peek(in.Buffered())
	g.heard = bytes.Clone(g.heard)
	return err
}

// stay listens to the end.
func (g *guest) stay() error {
	more, err := io.ReadAll(g.conn)
	g.endedAt, g.endedWith = time.Now(), err
	g.heard = append(g.heard, more...)
	return nil
}

func (g *guest) judge(t *testing.T, begun map[string]time.Time) {
	t.Helper()
	if g.endedWith != nil || !strings.Contains(string(g.heard), g.farewell) {
		t.Errorf("%s ends with %q, %v", g.name, g.heard, g.endedWith)
	}
	from, to := begun[g.from], begun[g.to]
	if from.IsZero() || to.IsZero() || g.endedAt.Before(from) || g.endedAt.After(to.Add(lateness)) {
		t.Errorf("%s ends at %s; phase %s began at %s, phase %s at %s", g.name, g.endedAt, g.from, from, g.to, to)
	}
}

// phasesBegun reads from the log when each phase of the drain began.
func phasesBegun(a *rolling.App) map[string]time.Time {
	begun := map[string]time.Time{}
	for line := range strings.Lines(a.Output()) {
		var entry struct {
			Time       time.Time
			Msg, Phase string
		}
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "drain" {
			begun[entry.Phase] = entry.Time
		}
	}
	return begun
}
