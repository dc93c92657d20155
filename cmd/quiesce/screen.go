package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Least and largest sizes that are drawn for, whatever the terminal says.
const (
	widthMin, widthMax   = 20, 400
	heightMin, heightMax = 4, 200
)

// screen is some lines at the end of a terminal that are drawn anew in place. It is for one goroutine at a time.
type screen struct {
	out   io.Writer
	size  func() (width, height int)
	drawn int // lines
	last  []string
}

// newScreen answers nil when what is written does not go to a terminal that can be drawn on.
func newScreen(out io.Writer, terminal string) *screen {
	file, ok := out.(*os.File)
	if !ok || terminal == "dumb" {
		return nil
	}
	fd := int(file.Fd())
	if _, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ); err != nil {
		return nil
	}
	return &screen{out: out, size: func() (int, int) {
		size, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
		if err != nil || size.Col == 0 || size.Row == 0 {
			return 80, 24
		}
		return int(size.Col), int(size.Row)
	}}
}

// room is how many columns and lines there are to draw on.
func (s *screen) room() (width, height int) {
	width, height = s.size()
	// The last column is left free, for what a terminal does after a character there differs; so is the line of the cursor.
	return min(max(width, widthMin), widthMax) - 1, min(max(height, heightMin), heightMax) - 1
}

// draw replaces the lines that were drawn before. What does not fit is cut off.
func (s *screen) draw(lines []string) error {
	s.last = lines
	return s.redraw("")
}

// above prints text that stays, and draws the lines again below it.
func (s *screen) above(text string) {
	_ = s.redraw(text) // a terminal that is gone is no error of ours
}

// redraw writes everything at once, so that nothing flickers.
func (s *screen) redraw(text string) error {
	var b strings.Builder
	if s.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", s.drawn)
	}
	b.WriteString("\r\x1b[J" + text)
	width, height := s.room()
	lines := s.last[:min(len(s.last), height)]
	for _, line := range lines {
		b.WriteString(cut(line, width) + "\n")
	}
	s.drawn = len(lines)
	_, err := io.WriteString(s.out, b.String())
	return err
}

// cut shortens a line to so many characters.
func cut(line string, width int) string {
	if utf8.RuneCountInString(line) <= width {
		return line
	}
	return string([]rune(line)[:width-1]) + "…"
}
