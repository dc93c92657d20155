package fsm

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden scripts after a change of behaviour that is meant")

// TestScenarios replays testdata/*.txt. A script is a story with commands in it:
//
//	@TIME TERM Command {"Field": value, ...} [key=ID]
//
// and under each command the result, the tokens and revision after it, and what changed. Lines that begin with # are the story.
func TestScenarios(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := replayScript(t, string(want))
			if got == string(want) {
				return
			}
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			t.Errorf("%s tells another story now (go test -update after reading the difference):\n%s", path, firstDifference(got, string(want)))
		})
	}
}

func replayScript(t *testing.T, script string) string {
	t.Helper()
	s := New()
	var out strings.Builder
	lines := bufio.NewScanner(strings.NewReader(script))
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "    ") {
			continue // an old answer
		}
		fmt.Fprintln(&out, line)
		if !strings.HasPrefix(line, "@") {
			continue
		}
		term, e := parseCommand(t, line)
		r := apply(t, s, term, e)[0]
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "    %s\n", b)
		var touched []string
		for _, c := range s.changes {
			verb := "set"
			if c.Deleted {
				verb = "del"
			}
			if c.Table != "stored" && c.Table != "acked" {
				touched = append(touched, verb+" "+c.Table+"/"+strings.ReplaceAll(c.Key, "\x00", "|"))
			}
		}
		if len(touched) > 0 {
			fmt.Fprintf(&out, "    %s\n", strings.Join(touched, ", "))
		}
	}
	return out.String()
}

func parseCommand(t *testing.T, line string) (term uint64, e Entry) {
	t.Helper()
	line, key, hasKey := strings.Cut(line, " key=")
	var name string
	if _, err := fmt.Sscanf(line, "@%d %d %s", &e.Now, &term, &name); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	fields := line[strings.Index(line, name)+len(name):]
	op := Op{Command: namedCommand(t, name, fields)}
	if hasKey {
		op.Key = &Key{ID: key, Fingerprint: digestOf([]byte(name), []byte(fields)).Hi}
	}
	e.Ops = []Op{op}
	return term, e
}

// namedCommand builds a command from the name in the kinds table and JSON of its fields.
func namedCommand(t *testing.T, name, fields string) Command {
	t.Helper()
	for _, info := range kinds {
		if info.name != name || info.decode == nil {
			continue
		}
		zero, flat := map[string]Command{"AcquireLock": AcquireLock{}, "ReleaseLock": ReleaseLock{}}[name]
		if !flat {
			var err error
			if zero, err = info.decode([]byte{0xa0}); err != nil { // an empty CBOR map
				t.Fatal(err)
			}
		}
		c := reflect.New(reflect.TypeOf(zero))
		if strings.TrimSpace(fields) != "" {
			dec := json.NewDecoder(strings.NewReader(fields))
			dec.DisallowUnknownFields()
			if err := dec.Decode(c.Interface()); err != nil {
				t.Fatalf("%s %s: %v", name, fields, err)
			}
		}
		return c.Elem().Interface().(Command)
	}
	t.Fatalf("no command %q", name)
	return nil
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range g {
		if i >= len(w) || g[i] != w[i] {
			expected := "(end)"
			if i < len(w) {
				expected = w[i]
			}
			return fmt.Sprintf("line %d\n  now:  %s\n  then: %s", i+1, g[i], expected)
		}
	}
	return "it is shorter now"
}
