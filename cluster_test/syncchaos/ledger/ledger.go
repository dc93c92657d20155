// Package ledger is what an application writes down of its own transactions, line by line, in a file that outlives its process: the judge believes this, the database
// and Redis, and nothing that the product says of itself. A line is one write at the end of the file, so a process that is killed leaves whole lines, but for the last.
package ledger

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// ErrGap means that lines are missing, or are none.
var ErrGap = errors.New("ledger: lines are missing")

// What a line says.
const (
	Begin      = "begin"       // a life of an application
	Intent     = "intent"      // a transaction is about to begin
	Committed  = "committed"   // its commit was confirmed
	Unknown    = "unknown"     // it was not, and may have happened
	RolledBack = "rolled_back" // it did not happen, and cannot any more
	Later      = "later"       // the SDK was asked to send its events in the background
	Kept       = "kept"        // the SDK could not send its events now, keeps them, and will send them again
	Accepted   = "accepted"    // the coordinator has its events
	Forgotten  = "forgotten"   // nobody will be told how it ended, on purpose
)

// Line is one line. A serial names a transaction, and is a column of the rows that it writes.
type Line struct {
	N      int     `json:"n"` // from 1, without a gap
	Op     string  `json:"op"`
	Life   string  `json:"life,omitempty"`
	Serial string  `json:"serial,omitempty"`
	Tier   int     `json:"tier,omitempty"`
	Doomed bool    `json:"doomed,omitempty"` // it will be rolled back on purpose
	Events []Event `json:"events,omitempty"` // that were accepted with a token
}

// Event is an event as it was accepted. Where the mapping's key columns are its primary key it has a PK, else a Key.
type Event struct {
	Mapping string `json:"mapping"`
	PK      string `json:"pk,omitempty"`
	Key     string `json:"key,omitempty"`
	Token   uint64 `json:"token"`
}

// Book is a ledger that is written. Many goroutines may.
type Book struct {
	mu   sync.Mutex
	file *os.File
	n    int
}

// Open makes a new file.
func Open(path string) (*Book, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &Book{file: file}, nil
}

// Write adds a line and gives it its number.
func (b *Book) Write(l Line) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	l.N = b.n + 1
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if _, err := b.file.Write(append(text, '\n')); err != nil {
		return err
	}
	b.n++
	return nil
}

// Close closes the file.
func (b *Book) Close() error { return b.file.Close() }

// Read gives the lines of a file. The last one may have been cut off. With ErrGap come the lines that are there.
func Read(path string) ([]Line, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var lines []Line
	var gap error
	for in := bufio.NewReader(file); ; {
		text, err := in.ReadBytes('\n')
		switch {
		case errors.Is(err, io.EOF):
			return lines, gap
		case err != nil:
			return nil, err
		}
		var l Line
		if err := json.Unmarshal(bytes.TrimSpace(text), &l); err != nil {
			return nil, fmt.Errorf("%w: %s after line %d: %w", ErrGap, path, len(lines), err)
		}
		if l.N != len(lines)+1 && gap == nil {
			gap = fmt.Errorf("%w: %s has line %d in place %d", ErrGap, path, l.N, len(lines)+1)
		}
		lines = append(lines, l)
	}
}
