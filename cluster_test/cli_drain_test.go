package cluster_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/cluster_test/harness"
)

// What runs in place of a service manager: each instance is a shell that starts quiesce run again and again. The command notes the release
// that it found when it started.
const superviseScript = `cd "$1"
while ! test -e stop; do
	quiesce run --service orders --name "$2" --grace 8s --lame-duck 1s --ready-file "$2.ready" -- \
		sh -c 'trap "exit 0" TERM; cp release "$1.release"; : >"$1.ready"; while :; do sleep 0.05; done' sh "$2" 2>>"$2.log" &
	echo $! >"$2.pid"
	wait $!
done`

// kubectlScript is what roll.sh sees of Kubernetes. A pod is the process that was there when the pods were listed; deleting it is SIGTERM.
const kubectlScript = `#!/bin/sh
case "$1" in
get) for pod in web-1 web-2 web-3 web-4; do cp "$FLEET/$pod.pid" "$FLEET/$pod.pod" && echo $pod; done ;;
delete) kill -TERM "$(cat "$FLEET/$3.pod")" 2>/dev/null || true ;;
esac
`

const fleetSize = 4

// fleet is a service under quiesce run.
type fleet struct {
	*cli
	t   *testing.T
	dir string
}

func startFleet(t *testing.T, q *cli) *fleet {
	t.Helper()
	f := &fleet{cli: q, t: t, dir: t.TempDir()}
	f.write("kubectl", kubectlScript)
	f.write("health", "good")
	f.write("release", "1")
	q.must(t, 0, "service", "set", "orders", "--max-unavailable", "1", "--settle", "500ms", "--restart-hold", "1m")
	for i := range fleetSize {
		supervisor := exec.Command("sh", "-c", superviseScript, "sh", f.dir, fmt.Sprint("web-", i+1))
		supervisor.Env = f.environment()
		supervisor.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := supervisor.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { // the guards see their programs end, and end the commands
			_ = syscall.Kill(-supervisor.Process.Pid, syscall.SIGKILL)
			_ = supervisor.Wait()
		})
	}
	f.await("all to be available", func(s api.Service) bool { return s.Available == fleetSize })
	return f
}

func (f *fleet) environment(more ...string) []string {
	return append(append(os.Environ(), "QUIESCE_ADDRS="+strings.Join(f.cluster.Addrs(), ","), "FLEET="+f.dir,
		"PATH="+f.dir+":"+filepath.Dir(f.path)+":"+os.Getenv("PATH")), more...)
}

func (f *fleet) write(name, text string) {
	f.t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, name), []byte(text), 0o700); err != nil { //nolint:gosec // a script is to be run
		f.t.Fatal(err)
	}
}

func (f *fleet) service() api.Service {
	f.t.Helper()
	var s api.Service
	if err := json.Unmarshal([]byte(f.must(f.t, 0, "services", "orders", "-o", "json")), &s); err != nil {
		f.t.Fatal(err)
	}
	return s
}

func (f *fleet) await(what string, holds func(api.Service) bool) {
	f.t.Helper()
	harness.Eventually(f.t, cliWithin, what, func() error {
		if s := f.service(); !holds(s) {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
}

// running counts the instances that started with a release.
func (f *fleet) running(release string) int {
	n := 0
	for i := range fleetSize {
		if text, err := os.ReadFile(filepath.Join(f.dir, fmt.Sprintf("web-%d.release", i+1))); err == nil && string(text) == release {
			n++
		}
	}
	return n
}

// script runs a script of deploy/ to its end, and watches the service meanwhile.
func (f *fleet) script(path string, args []string, environment ...string) (output string, code, leastAvailable int) {
	f.t.Helper()
	cmd := exec.Command(filepath.Join("..", "deploy", path), args...)
	cmd.Env = f.environment(environment...)
	log := printTo(f.t, cmd)
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	f.t.Cleanup(func() { _ = cmd.Process.Kill() })
	leastAvailable = fleetSize
	for deadline := time.Now().Add(3 * cliWithin); ; {
		select {
		case err := <-done:
			if exited := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exited) {
				f.t.Fatal(err)
			}
			return log.String(), cmd.ProcessState.ExitCode(), leastAvailable
		default:
		}
		s := f.service()
		leastAvailable = min(leastAvailable, s.Available)
		if time.Now().After(deadline) {
			f.t.Fatalf("%s has not ended: %+v\n%s", path, s, log)
		}
	}
}

// printTo lets a command print into one file.
func printTo(t *testing.T, cmd *exec.Cmd) output {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	cmd.Stdout, cmd.Stderr = file, file
	return output(file.Name())
}

// The recipes of docs/recipes.md, with real processes in place of hosts and pods.
func TestRecipes_RestartAServiceWithinItsBudget(t *testing.T) {
	f := startFleet(t, newCLI(t, harness.Start(t, harness.Options{})))
	rules := []string{"SERVICES=orders", "CANARY=5%", "OBSERVE=3s", `CHECK=test "$(cat "$FLEET/health")" = good || { echo "errors: 17 %"; exit 1; }`, "CHECK_EVERY=1s", "DEADLINE=3m"}

	t.Run("a pipeline rolls out", func(t *testing.T) {
		f.write("release", "2")
		before := f.service().Drains
		text, code, least := f.script("pipeline/rollout.sh", nil, rules...)
		if code != 0 || f.running("2") != fleetSize {
			t.Fatalf("code %d, %d run the release\n%s", code, f.running("2"), text)
		}
		if least < fleetSize-1 {
			t.Errorf("only %d were available\n%s", least, text)
		}
		after := f.service().Drains
		if after.Grants-before.Grants != fleetSize || after.Overdrafts+after.Forced+after.Lost > 0 {
			t.Errorf("%+v", after)
		}
		for _, want := range []string{"at worst", "observing of orders", "checks passed"} {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in\n%s", want, text)
			}
		}
	})
	t.Run("and stops at a bad canary", func(t *testing.T) {
		f.write("release", "3")
		f.write("health", "bad")
		text, code, _ := f.script("pipeline/rollout.sh", nil, rules...)
		if code != 77 || f.running("3") != 1 || f.running("2") != fleetSize-1 {
			t.Fatalf("code %d, %d run the release\n%s", code, f.running("3"), text)
		}
		if !strings.Contains(text, "  | errors: 17 %") {
			t.Errorf("%s", text)
		}
	})
	t.Run("pods are deleted when they have their ticket", func(t *testing.T) {
		f.write("release", "4")
		f.await("all to be available", func(s api.Service) bool { return s.Available == fleetSize })
		before := f.service().Drains
		text, code, least := f.script("kubernetes/roll.sh", []string{"orders", "release 4"})
		if code != 0 || f.running("4") != fleetSize {
			t.Fatalf("code %d, %d run the release\n%s", code, f.running("4"), text)
		}
		if after := f.service().Drains; least < fleetSize-1 || after.Grants-before.Grants != fleetSize || after.Overdrafts > 0 || after.Lost > 0 {
			t.Errorf("only %d were available; %+v\n%s", least, after, text)
		}
	})
	t.Run("a plan that nobody watches goes on", func(t *testing.T) {
		f.write("release", "5")
		f.await("all to be available", func(s api.Service) bool { return s.Available == fleetSize })
		watch := f.start(t, "plan", "new", "--service", "orders", "--reason", "release 5", "--watch")
		harness.Eventually(t, cliWithin, "the first drain", func() error {
			if !strings.Contains(watch.out.String(), "is draining") {
				return errors.New(watch.out.String() + watch.err.String())
			}
			return nil
		})
		_ = watch.Process.Signal(syscall.SIGINT)
		watch.wantCode(t, codeInTime)
		var id string
		if _, after, ok := strings.Cut(watch.err.String(), "quiesce plan watch "); ok {
			id, _, _ = strings.Cut(after, " ")
		}
		f.must(t, 0, "plan", "watch", id)
		if f.running("5") != fleetSize {
			t.Errorf("%d run the release", f.running("5"))
		}
	})
}
