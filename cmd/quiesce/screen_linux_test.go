package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client"
)

// openTerminal gives a terminal of a size, and the side where a person would sit.
func openTerminal(t *testing.T, columns, rows uint16) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	t.Cleanup(func() { _ = person.Close() })
	fd := int(person.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if program, err = os.OpenFile(fmt.Sprint("/dev/pts/", number), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Close() })
	if err := unix.IoctlSetWinsize(int(program.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: rows}); err != nil {
		t.Fatal(err)
	}
	return person, program
}

func TestScreen_IsForTerminalsThatCanBeDrawnOn(t *testing.T) {
	t.Parallel()
	_, terminal := openTerminal(t, 100, 30)
	s := newScreen(terminal, "xterm")
	if s == nil {
		t.Fatal("a terminal is not drawn on")
	}
	if width, height := s.room(); width != 99 || height != 29 {
		t.Errorf("%d columns, %d rows", width, height)
	}
	file, err := os.Create(t.TempDir() + "/log")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if newScreen(terminal, "dumb") != nil || newScreen(file, "xterm") != nil || newScreen(&bytes.Buffer{}, "xterm") != nil {
		t.Error("what is no such terminal is drawn on")
	}
}

func TestPlanWatch_DrawsOnATerminalInPlace(t *testing.T) {
	t.Parallel()
	person, terminal := openTerminal(t, 50, 10)
	s := newStory(t, map[string][]any{"GET /v1/plans/7": {planIs(1, "running", "waves", 0, "draining", "pending"), planIs(2, "running", "waves", 1, "done", "draining"), api.Plan{ID: 7, State: "succeeded", Index: 3, Done: 2, Total: 2}}})
	c := &cli{getenv: func(name string) string { return map[string]string{client.EnvAddrs: s.URL, "TERM": "xterm"}[name] }, out: terminal, err: &bytes.Buffer{}}
	if code := c.run([]string{"plan", "watch", "7"}); code != 0 {
		t.Fatal(code)
	}
	var text []byte // a terminal gives what it has, which need not be all of it
	for chunk := make([]byte, 1<<12); !bytes.Contains(text, []byte("2 of 2 done\r\n")); {
		n, err := person.Read(chunk)
		if err != nil {
			t.Fatalf("%v after %q", err, text)
		}
		text = append(text, chunk[:n]...)
	}
	// What a person sees at the end: only the last picture is left.
	drawn := strings.Split(string(text), "\x1b[J")
	if len(drawn) != 4 || !strings.Contains(drawn[1], "orders/web-0 is draining") || !strings.HasPrefix(drawn[3], "plan 7 is succeeded, 2 of 2 done") {
		t.Errorf("%q", drawn)
	}
	for i, picture := range drawn[1:3] {
		lines := strings.Count(picture, "\n")
		if back := fmt.Sprintf("\x1b[%dA\r", lines); !strings.HasSuffix(picture, back) {
			t.Errorf("picture %d of %d lines is not taken back: %q", i, lines, picture)
		}
	}
}
