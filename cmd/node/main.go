// Command quiesce-node is one node of a Quiesce cluster.
//
// Exit codes: 0 stopped or left cleanly; 1 failed; 64 wrong usage or configuration; 69 an address is taken; 74 the disk failed or hung;
// 75 try again: start it once more and it will recover; 78 the data folder needs an operator, and the message says what to do;
// 128+n ended by a second signal n.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/quiescehq/quiesce/replica"
	"github.com/quiescehq/quiesce/replica/store"
)

const (
	exitFailed      = 1
	exitUsage       = 64
	exitUnavailable = 69
	exitIO          = 74
	exitTryAgain    = 75
	exitFolder      = 78
)

func main() {
	os.Exit(run(os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

func run(args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	cfg, err := load(args, getenv, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errVersion):
		fmt.Fprintln(stdout, "quiesce-node", version())
		return 0
	case err != nil:
		return complain(stderr, err)
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	log := newLogger(cfg, stderr)
	n, err := open(cfg, log, func(err error) { os.Exit(complain(stderr, err)) })
	if err != nil {
		return complain(stderr, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go forceOnSecond(signals, cancel, stderr) // lives as long as the process
	go tuneGC(ctx, getenv)
	if err := n.run(ctx); err != nil {
		return complain(stderr, err)
	}
	return 0
}

// forceOnSecond begins the shutdown at the first signal and ends the process at the second.
func forceOnSecond(signals <-chan os.Signal, begin context.CancelFunc, stderr io.Writer) {
	<-signals
	begin()
	if sig, ok := (<-signals).(syscall.Signal); ok {
		fmt.Fprintf(stderr, "quiesce-node: second signal (%s): exiting at once, without leaving\n", sig)
		os.Exit(128 + int(sig))
	}
}

// complain prints one sentence and chooses the exit code.
func complain(stderr io.Writer, err error) int {
	code, advice := exitFailed, ""
	var usage usageError
	switch {
	case errors.As(err, &usage):
		code = exitUsage
	case errors.Is(err, syscall.EADDRINUSE), errors.Is(err, store.ErrInUse):
		code = exitUnavailable
	case errors.Is(err, store.ErrStore), errors.Is(err, store.ErrStoreHung):
		code, advice = exitIO, "; the outcome of requests under way is unknown, nothing acknowledged is lost"
	case errors.Is(err, replica.ErrInstallLoop), errors.Is(err, replica.ErrTransferStuck):
		code, advice = exitTryAgain, "; start this node again, it will follow then"
	case errors.Is(err, store.ErrSnapshotDamaged), errors.Is(err, store.ErrDamaged), errors.Is(err, replica.ErrBadEntry):
		code, advice = exitFolder, "; if the other nodes are well: remove this node from the cluster (DELETE /v1/cluster/nodes/ID), move its data folder away, and start it again to join with an empty one"
	case errors.Is(err, store.ErrNodeID), errors.Is(err, store.ErrLogStore), errors.Is(err, store.ErrRejoin), errors.Is(err, store.ErrClusterID):
		code = exitFolder
	}
	// Joined errors and those of the YAML decoder come on lines of their own.
	sentence := strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' }), "; ")
	fmt.Fprintf(stderr, "quiesce-node: %s%s\n", sentence, advice)
	return code
}

// version is set by the linker in a release; a build from a checkout shows its revision.
var release = "0.1.0-dev"

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return release
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return release + "+" + s.Value[:12]
		}
	}
	return release
}
