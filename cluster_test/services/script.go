package services

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

const (
	scriptTimeout = 6 * time.Minute // the first call on a bare machine downloads the servers
	scriptGrace   = 5 * time.Second // for a child of a killed script that holds its output open
)

// errScript carries what scripts/services.sh said.
var errScript = errors.New("scripts/services.sh failed")

// runScript runs scripts/services.sh and returns what it printed.
func runScript(t testing.TB, arguments ...string) (string, error) {
	t.Helper()
	script, err := scriptPath()
	if err != nil {
		return "", err
	}
	// Not t.Context: it is over when a cleanup runs.
	ctx, cancel := context.WithTimeout(context.Background(), scriptTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, "bash", append([]string{script}, arguments...)...)
	command.WaitDelay = scriptGrace
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("%w (%w): %s", errScript, err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(stdout.String()), nil
}

// scriptPath starts from this file, so that a test of any package finds it, whatever its working folder.
func scriptPath() (string, error) {
	_, here, _, ok := runtime.Caller(0)
	if !ok || !filepath.IsAbs(here) {
		return "", fmt.Errorf("%w: its place is unknown in a binary built with -trimpath", errScript)
	}
	return filepath.Join(filepath.Dir(here), "..", "..", "scripts", "services.sh"), nil
}
