package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// exitWithin is longer than a node's whole shutdown may take.
const exitWithin = 40 * time.Second

// Node is one member of a cluster, running or not. Its addresses and its data folder stay the same.
type Node struct {
	ID       string
	HTTPAddr string
	PeerAddr string
	Dir      string // the data folder

	told    struct{ http, peer string } // the addresses that the other nodes are told, when those are links
	t       testing.TB
	config  string // path
	log     string
	process *Process
}

// Start starts the node and does not wait for it; see Cluster.AwaitReady.
func (n *Node) Start() {
	n.t.Helper()
	if n.Running() {
		n.t.Fatalf("%s runs already", n.ID)
	}
	n.process = Launch(n.t, n.log, "-config", n.config)
}

// Running tells whether the process is there. A paused one is.
func (n *Node) Running() bool { return n.process != nil && n.process.Running() }

// Kill ends the node as a power cut does, and waits until it is gone.
func (n *Node) Kill() {
	n.t.Helper()
	n.Signal(syscall.SIGKILL)
	n.process.Wait(n.t, exitWithin)
}

// Pause stops all threads of the node. Its connections stay open, and the system goes on accepting new ones for it.
func (n *Node) Pause() { n.t.Helper(); n.Signal(syscall.SIGSTOP) }

// Resume lets a paused node go on as if nothing had happened.
func (n *Node) Resume() { n.t.Helper(); n.Signal(syscall.SIGCONT) }

// Term asks the node to leave, or to stop. See Wait.
func (n *Node) Term() { n.t.Helper(); n.Signal(syscall.SIGTERM) }

// Signal sends any signal.
func (n *Node) Signal(s syscall.Signal) {
	n.t.Helper()
	if n.process == nil {
		n.t.Fatalf("%s was never started", n.ID)
	}
	if err := n.process.Signal(s); err != nil {
		n.t.Fatal(err)
	}
}

// Wait waits for the end of the process and returns its exit code.
func (n *Node) Wait() int {
	n.t.Helper()
	return n.process.Wait(n.t, exitWithin)
}

// PID of the node's process.
func (n *Node) PID() int { return n.process.PID() }

// Output is what the node printed since its last start.
func (n *Node) Output() string { return n.process.Output() }

// Wipe removes the data folder of a node that does not run.
func (n *Node) Wipe() {
	n.t.Helper()
	if n.Running() {
		n.t.Fatalf("%s runs: its folder cannot be wiped", n.ID)
	}
	if err := os.RemoveAll(n.Dir); err != nil {
		n.t.Fatal(err)
	}
}

// AwaitOutput waits until the node has printed text since its last start.
func (n *Node) AwaitOutput(text string, within time.Duration) {
	n.t.Helper()
	Eventually(n.t, within, fmt.Sprintf("%s to print %q", n.ID, text), func() error {
		if !strings.Contains(n.Output(), text) {
			return fmt.Errorf("not printed")
		}
		return nil
	})
}

const tailLines = 60

// report prints the end of the log of a failed test, and fails a test whose node raced or ended by itself.
func (n *Node) report() {
	text, err := os.ReadFile(n.log)
	if err != nil {
		return
	}
	if strings.Contains(string(text), "WARNING: DATA RACE") {
		n.t.Errorf("%s has a data race:\n%s", n.ID, raceReport(string(text)))
	}
	if n.t.Failed() {
		lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
		n.t.Logf("%s (%s), the last lines:\n%s", n.ID, filepath.Base(n.log), strings.Join(lines[max(0, len(lines)-tailLines):], "\n"))
	}
}

const raceReportBytes = 6_000

func raceReport(log string) string {
	report := log[strings.Index(log, "WARNING: DATA RACE"):]
	return report[:min(len(report), raceReportBytes)]
}

// Config is the path of the node's configuration file.
func (n *Node) Config() string { return n.config }
