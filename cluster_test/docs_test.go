package cluster_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var testName = regexp.MustCompile(`\bTest[A-Z][A-Za-z]*_[A-Za-z0-9]+\b`)

// A promise that names the test that attacks it must not outlive that test.
func TestDocs_NamedTestsExist(t *testing.T) {
	t.Parallel()
	named, defined := map[string]string{}, map[string]bool{}
	err := filepath.WalkDir("..", func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			if entry != nil && strings.HasPrefix(entry.Name(), ".") && entry.Name() != ".." {
				return filepath.SkipDir // .git, .data
			}
			return err
		}
		text, isTest, ok := source(t, path)
		if !ok {
			return nil
		}
		for _, name := range testName.FindAllString(text, -1) {
			if isTest {
				defined[name] = defined[name] || strings.Contains(text, "func "+name+"(")
			} else {
				named[name] = path
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(named) < 20 {
		t.Fatalf("only %d tests are named: the search looks in the wrong place", len(named))
	}
	for name, path := range named {
		if !defined[name] {
			t.Errorf("%s names %s, which does not exist", path, name)
		}
	}
}

// source reads what may name tests: documents and Go files.
func source(t *testing.T, path string) (text string, isTest, ok bool) {
	t.Helper()
	if ext := filepath.Ext(path); ext != ".go" && ext != ".md" {
		return "", false, false
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b), strings.HasSuffix(path, "_test.go"), true
}
