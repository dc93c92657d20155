package ledger

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func TestLedger_MissingLineIsNoticedAndOneThatWasCutOffIsNone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "book")
	b, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	var joined sync.WaitGroup
	for range 8 {
		joined.Go(func() {
			for range 25 {
				if err := b.Write(Line{Op: Intent, Serial: "a.1"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	joined.Wait()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if lines, err := Read(path); err != nil || len(lines) != 200 {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rewrite := func(text []byte) string {
		other := filepath.Join(t.TempDir(), "book")
		if err := os.WriteFile(other, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return other
	}
	if lines, err := Read(rewrite(text[:len(text)-3])); err != nil || len(lines) != 199 {
		t.Errorf("a book that ends in the middle of a line: %d lines, %v", len(lines), err)
	}
	first := bytes.IndexByte(text, '\n') + 1
	second := first + bytes.IndexByte(text[first:], '\n') + 1
	if lines, err := Read(rewrite(append(bytes.Clone(text[:first]), text[second:]...))); !errors.Is(err, ErrGap) || len(lines) != 199 {
		t.Errorf("a book without its second line: %d lines, %v", len(lines), err)
	}
	if _, err := Read(rewrite(append(bytes.Clone(text[:first-5]), text[second:]...))); !errors.Is(err, ErrGap) {
		t.Errorf("a book with a broken line: %v", err)
	}
}
