package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// stepEvery is how often a node looks for a step of its clock. It is written into the overlay.
const stepEvery = 100 * time.Millisecond

// stepFile is the variable of the environment that names the file with the step, in seconds.
const stepFile = "CLOCK_STEP_FILE"

// The call in package time that is wrapped. Its monotonic reading is not touched: it is what must carry everything.
const (
	readsClock  = "\tsec, nsec, mono := runtimeNow()\n\tif mono == 0 {\n\t\treturn Time{uint64(nsec), sec + unixToInternal, Local}\n"
	stepsClock  = "\tsec, nsec, mono := runtimeNow()\n\tsec += clockStep(mono)\n\tif mono == 0 {\n\t\treturn Time{uint64(nsec), sec + unixToInternal, Local}\n"
	overlayCode = `package time

import (
	"sync/atomic"
	"syscall"
)

var clockSeconds, clockRead atomic.Int64

// clockStep is by how many seconds the wall clock is off, as the file says that the environment names.
func clockStep(mono int64) int64 {
	last := clockRead.Load()
	if last != 0 && mono-last < %d || !clockRead.CompareAndSwap(last, mono) {
		return clockSeconds.Load()
	}
	path, ok := syscall.Getenv("%s")
	if !ok {
		return 0
	}
	fd, err := open(path)
	if err != nil {
		return clockSeconds.Load()
	}
	defer closefd(fd)
	var text [32]byte
	n, err := read(fd, text[:])
	if err != nil || n == 0 {
		return clockSeconds.Load()
	}
	sign, seconds := int64(1), int64(0)
	for _, c := range text[:n] {
		switch {
		case c == '-':
			sign = -1
		case c >= '0' && c <= '9':
			seconds = 10*seconds + int64(c-'0')
		}
	}
	clockSeconds.Store(sign * seconds)
	return sign * seconds
}
`
)

// steppable is a node whose wall clock tests can step: the same program over a package time that adds to what the system says. One for a
// test binary, made by the first test that needs it, in the folder of the other.
var steppable struct {
	once sync.Once
	err  error
}

func steppableBinary(t testing.TB) string {
	t.Helper()
	dir := filepath.Dir(Binary(t))
	path := filepath.Join(dir, "quiesce-node-steppable")
	steppable.once.Do(func() { steppable.err = buildSteppable(dir, path) })
	if steppable.err != nil {
		t.Fatal(steppable.err)
	}
	return path
}

func buildSteppable(dir, path string) error {
	overlay, err := writeOverlay(dir)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), buildTimeout)
	defer cancel()
	arguments := []string{"build", "-buildvcs=false", "-overlay", overlay, "-o", path}
	if raceEnabled {
		arguments = append(arguments, "-race")
	}
	command := exec.CommandContext(ctx, "go", append(arguments, "github.com/quiescehq/quiesce/cmd/node")...)
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("build the node over another package time: %w\n%s", err, out)
	}
	return nil
}

func writeOverlay(dir string) (path string, err error) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", err
	}
	std := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	original := filepath.Join(std, "time.go")
	text, err := os.ReadFile(original)
	if err != nil {
		return "", err
	}
	if strings.Count(string(text), readsClock) != 1 {
		return "", fmt.Errorf("%s reads the clock in another way than this overlay knows", original)
	}
	replaced := map[string]string{original: filepath.Join(dir, "time.go.txt"), filepath.Join(std, "zclockstep.go"): filepath.Join(dir, "step.go.txt")}
	written := map[string]string{
		replaced[original]:                 strings.Replace(string(text), readsClock, stepsClock, 1),
		filepath.Join(dir, "step.go.txt"):  fmt.Sprintf(overlayCode, stepEvery.Nanoseconds(), stepFile),
		filepath.Join(dir, "overlay.json"): "",
	}
	list, err := json.Marshal(map[string]any{"Replace": replaced})
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, "overlay.json")
	written[path] = string(list)
	for name, text := range written {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	return path, nil
}

// StartSteppable is Start for a node whose wall clock the test can step. The clock of the machine is never touched.
func (n *Node) StartSteppable() {
	n.t.Helper()
	n.StepClock(0)
	n.process = launch(n.t, steppableBinary(n.t), n.log, []string{stepFile + "=" + n.stepPath()}, "-config", n.config)
}

func (n *Node) stepPath() string { return n.config + ".step" }

// StepClock puts the wall clock of such a node off by d from that of the machine, and returns when the node shows it, if it runs.
func (n *Node) StepClock(d time.Duration) {
	n.t.Helper()
	fresh := n.stepPath() + ".new"
	if err := os.WriteFile(fresh, []byte(strconv.FormatInt(int64(d/time.Second), 10)), 0o600); err != nil {
		n.t.Fatal(err)
	}
	if err := os.Rename(fresh, n.stepPath()); err != nil { // the node never reads half of it
		n.t.Fatal(err)
	}
	if !n.Running() {
		return
	}
	Eventually(n.t, ReadyWithin, fmt.Sprintf("%s to be off by %s", n.ID, d), func() error {
		off, err := n.clockOff()
		if err == nil && (off-d).Abs() > 5*time.Second {
			err = fmt.Errorf("it is off by %s", off)
		}
		return err
	})
}

// clockOff is by how much the node's clock differs from the machine's, as it dates its answers.
func (n *Node) clockOff() (time.Duration, error) {
	client := http.Client{Timeout: askTimeout}
	defer client.CloseIdleConnections()
	answer, err := client.Get("http://" + n.HTTPAddr + "/healthz")
	if err != nil {
		return 0, err
	}
	_ = answer.Body.Close()
	date, err := http.ParseTime(answer.Header.Get("Date"))
	return time.Until(date), err
}
