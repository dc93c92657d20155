package harness

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
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
	"syscall"
	"unsafe"
)

var (
	clockPath              = clockPathOf("%s")
	clockSeconds, clockRead int64
	clockText              [32]byte
)

func clockPathOf(variable string) *byte {
	path, ok := syscall.Getenv(variable)
	if !ok {
		return nil
	}
	p, err := syscall.BytePtrFromString(path)
	if err != nil {
		return nil
	}
	return p
}

// clockStep is by how many seconds the wall clock is off, as the file says. It runs on the scheduler's stack too, for timers ask for the
// time there: so it allocates nothing, takes no lock and does not tell the scheduler of its calls. Two that read the file at a time read the same.
//
//go:norace
func clockStep(mono int64) int64 {
	if clockPath == nil || clockRead != 0 && mono-clockRead < %d {
		return clockSeconds
	}
	clockRead = mono
	const here = -100
	fd, _, failed := syscall.RawSyscall6(syscall.SYS_OPENAT, ^uintptr(-here-1), uintptr(unsafe.Pointer(clockPath)), syscall.O_RDONLY|syscall.O_CLOEXEC, 0, 0, 0)
	if failed != 0 {
		return clockSeconds
	}
	n, _, failed := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(&clockText)), uintptr(len(clockText)))
	syscall.RawSyscall(syscall.SYS_CLOSE, fd, 0, 0)
	if failed != 0 || n == 0 {
		return clockSeconds
	}
	sign, seconds := int64(1), int64(0)
	for i := uintptr(0); i < n; i++ {
		switch c := clockText[i]; {
		case c == '-':
			sign = -1
		case c >= '0' && c <= '9':
			seconds = 10*seconds + int64(c-'0')
		}
	}
	clockSeconds = sign * seconds
	return clockSeconds
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
	if runtime.GOOS != "linux" {
		t.Skip("the overlay that steps a clock makes system calls of Linux")
	}
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
	return build("cmd/node", path, "-overlay", overlay)
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
		replaced[original]:                strings.Replace(string(text), readsClock, stepsClock, 1),
		filepath.Join(dir, "step.go.txt"): fmt.Sprintf(overlayCode, stepFile, stepEvery.Nanoseconds()),
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
