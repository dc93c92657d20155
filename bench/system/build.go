package system

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

const (
	buildMax   = 8 * time.Minute // on a machine that has compiled nothing yet
	profileEnv = "QUIESCE_BENCH_CPU_PROFILE"
)

// profiler is a file more for package main of the node, for profiles only: the product has no such door.
//
//go:embed profile.go.txt
var profiler []byte

// BuildNode builds the node from the sources in root. With profiled, it can write CPU profiles: see Quiesce.Profile.
func BuildNode(ctx context.Context, root, dir string, profiled bool) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, buildMax)
	defer cancel()
	binary := filepath.Join(dir, "quiesce-node")
	args := []string{"build", "-buildvcs=false", "-o", binary}
	if profiled {
		overlay, err := writeOverlay(root, dir)
		if err != nil {
			return "", err
		}
		args = append(args, "-overlay", overlay)
	}
	command := exec.CommandContext(ctx, "go", append(args, "./cmd/node")...)
	command.Dir = root
	if out, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the node: %w\n%s", err, out)
	}
	return binary, nil
}

func writeOverlay(root, dir string) (string, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return "", err
	}
	source := filepath.Join(dir, "profile.go")
	if err := os.WriteFile(source, profiler, 0o600); err != nil {
		return "", err
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(root, "cmd", "node", "bench_profile.go"): source}})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, overlay, 0o600)
}

// awaitFile waits until a file is there. It is renamed to its name when it is complete.
func awaitFile(ctx context.Context, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, profileMax)
	defer cancel()
	ticker := time.NewTicker(readyPoll)
	defer ticker.Stop()
	for {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return "", fmt.Errorf("no profile at %s: %w", path, context.Cause(ctx))
		}
	}
}
