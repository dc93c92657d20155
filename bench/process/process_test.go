package process

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestProcess_IsGoneAfterKillAndItsOutputIsKept(t *testing.T) {
	t.Parallel()
	p, err := Start(Spec{Path: "/bin/sh", Args: []string{"-c", "echo $WORD; exec sleep 60"}, Env: []string{"WORD=hello"}, Log: filepath.Join(t.TempDir(), "log")})
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for ticker := time.NewTicker(5 * time.Millisecond); p.Tail() != "hello"; <-ticker.C {
		if time.Now().After(deadline) {
			t.Fatalf("it printed %q", p.Tail())
		}
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if p.command.ProcessState == nil {
		t.Error("Kill returned before the process was gone")
	}
	if err := p.Kill(); err != nil {
		t.Errorf("the second time: %v", err)
	}
}

func TestParseStat_CountsFieldsBehindTheCommand(t *testing.T) {
	t.Parallel()
	const tail = " S 1 1 1 0 -1 4194560 100 0 0 0 150 50 7 7 20 0 9 0 100 1 1"
	for _, command := range []string{"(node)", "(a b)", "(odd) 1 (name))"} {
		got, err := parseStat("42 " + command + tail)
		if err != nil || got != 2*time.Second {
			t.Errorf("%s: %v, %v", command, got, err)
		}
	}
	for _, wrong := range []string{"", "42 (node) S 1", "42 (node)" + strings.Replace(tail, "150", "x", 1)} {
		if got, err := parseStat(wrong); err == nil {
			t.Errorf("%q: %v", wrong, got)
		}
	}
}

func TestParseMachine_LeavesIdleTimeOut(t *testing.T) {
	t.Parallel()
	got, err := parseMachine("cpu  100 50 150 99999 7 0 3 1 0 0\ncpu0 1 1 1 1\n")
	if err != nil || got != 3*time.Second {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := parseMachine("intr 5"); err == nil {
		t.Errorf("took %v from something else", got)
	}
}

func TestCPU_GrowsWithWork(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no /proc here")
	}
	before, err := CPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; {
		after, err := CPU(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if after-before >= 50*time.Millisecond {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("30 s of work were not seen")
		}
	}
}

func TestResident_GrowsWithWhatIsTouched(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/statm"); err != nil {
		t.Skip("no /proc here")
	}
	const size = 64 << 20
	before, err := Resident(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	held := make([]byte, size)
	for i := 0; i < len(held); i += os.Getpagesize() {
		held[i] = 1
	}
	after, err := Resident(os.Getpid())
	if err != nil || after < before+size/2 || after > before+4*size {
		t.Errorf("%d bytes before and %d after %d were touched, %v", before, after, len(held), err)
	}
	runtime.KeepAlive(held)
}
