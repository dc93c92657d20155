package rolling

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/cluster_test/harness"
)

// listensWithin is for a program with the race detector on a loaded machine.
const listensWithin = 30 * time.Second

var errQuiet = errors.New("it has not said where it listens")

// App is a program that runs as an instance of a service.
type App struct {
	*harness.Process
	Name string
	Base string // URL
}

// StartApp starts a program of this module, by its folder, and waits until it listens. It logs to dir.
func StartApp(t testing.TB, folder, dir, name string, variables ...string) *App {
	t.Helper()
	a := BeginApp(t, folder, dir, name, variables...)
	harness.Eventually(t, listensWithin, name+" to listen", func() error {
		addr := listening(a.Output())
		if addr == "" && !a.Running() {
			t.Fatalf("%s has ended:\n%s", name, a.Output())
		}
		if addr == "" {
			return errQuiet
		}
		a.Base = "http://" + addr
		return nil
	})
	return a
}

// BeginApp does not wait.
func BeginApp(t testing.TB, folder, dir, name string, variables ...string) *App {
	t.Helper()
	binary := harness.Program(t, folder)
	a := &App{Name: name, Process: harness.Exec(t, binary, filepath.Join(dir, name+".log"), append(variables, "QUIESCE_INSTANCE="+name))}
	t.Cleanup(func() {
		out := a.Output()
		if strings.Contains(out, "WARNING: DATA RACE") {
			t.Errorf("%s has a data race", name)
		}
		if t.Failed() {
			t.Logf("%s, the last lines:\n%s", name, lastLines(out))
		}
	})
	return a
}

// Environment is what an instance is told of its cluster.
func Environment(c *harness.Cluster, grace time.Duration) []string {
	return []string{"QUIESCE_ADDRS=" + strings.Join(c.Addrs(), ","), "QUIESCE_GRACE=" + grace.String()}
}

// Line finds a line of an instance's log by its message and reads it, if it is there.
func (a *App) Line(message string, into any) bool {
	for line := range strings.Lines(a.Output()) {
		var entry struct{ Msg string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == message {
			return into == nil || json.Unmarshal([]byte(line), into) == nil
		}
	}
	return false
}

func listening(log string) string {
	for line := range strings.Lines(log) {
		var entry struct{ Msg, Addr string }
		if strings.HasSuffix(line, "\n") && json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "listening" {
			return entry.Addr
		}
	}
	return ""
}

const tailLines = 25

func lastLines(log string) string {
	lines := bytes.Split(bytes.TrimSpace([]byte(log)), []byte{'\n'})
	return fmt.Sprintf("%s", bytes.Join(lines[max(0, len(lines)-tailLines):], []byte{'\n'}))
}
