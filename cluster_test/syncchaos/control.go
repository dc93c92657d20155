package syncchaos

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/quiescehq/quiesce/cluster_test/syncchaos/ledger"
	"github.com/quiescehq/quiesce/cluster_test/syncchaos/writer"
)

// control spoils one thing in what a run left, and says whether the judge found it: whether counting went up by one.
type control struct {
	name  string
	stays bool // it is spoiled in Redis itself
	spoil func(r *run, e *evidence)
	count func(v Verdict) int
}

var controls = []control{
	{"one byte of a value", true, (*run).spoilByte, func(v Verdict) int { return v.Unequal }},
	{"a key that is gone", true, (*run).spoilKey, func(v Verdict) int { return v.Lost }},
	{"a guard's token that fell", false, (*run).spoilGuard, func(v Verdict) int { return v.Backwards }},
	{"a value that was rolled back", false, (*run).spoilValue, func(v Verdict) int { return v.Phantom }},
	{"a line of a ledger", false, (*run).spoilLedger, func(v Verdict) int { return v.Gaps }},
}

// control shows the judge one lie after the other. The state of the run is over after that.
func (r *run) control() {
	r.t.Helper()
	before := r.look(r.evidence())
	for _, c := range controls {
		e := r.evidence()
		c.spoil(r, &e)
		after := r.look(e)
		if got, want := c.count(after), c.count(before)+1; got != want {
			r.complain("negative control: %s: %d were found, and not %d", c.name, got, want)
		} else {
			r.report.Controls[c.name]++
		}
		if c.stays {
			before = after
		}
	}
}

// row is a key of a tier that must be right.
func (r *run) row(tier int, column string) string {
	r.t.Helper()
	var id int64
	if err := r.world.db.QueryRowContext(r.t.Context(), "SELECT "+column+" FROM "+writer.Table(tier)+" LIMIT 1").Scan(&id); err != nil {
		r.t.Fatal(err)
	}
	return strconv.FormatInt(id, 10)
}

func (r *run) redo(command ...any) {
	r.t.Helper()
	if err := r.world.redis.Client.Do(r.t.Context(), command...).Err(); err != nil {
		r.t.Fatal(err)
	}
}

func (r *run) spoilByte(*evidence) {
	key := writer.PrefixJSON(2) + r.row(2, "id")
	value, err := r.world.redis.Client.Get(r.t.Context(), key).Result()
	if err != nil || value == "" {
		r.t.Fatalf("%s holds %q: %v", key, value, err)
	}
	r.redo("SETRANGE", key, len(value)-1, " ")
}

func (r *run) spoilKey(*evidence) { r.redo("UNLINK", writer.PrefixHash(3)+r.row(3, "code")) }

// lies adds commands to a copy of the append-only file: a link to it, and another file after it.
func (r *run) lies(e *evidence, commands ...[]string) {
	r.t.Helper()
	path, _ := r.world.tail()
	e.aof = r.t.TempDir()
	if err := os.Symlink(path, filepath.Join(e.aof, filepath.Base(path))); err != nil {
		r.t.Fatal(err)
	}
	var text strings.Builder
	for _, words := range commands {
		fmt.Fprintf(&text, "*%d\r\n", len(words))
		for _, w := range words {
			fmt.Fprintf(&text, "$%d\r\n%s\r\n", len(w), w)
		}
	}
	if err := os.WriteFile(filepath.Join(e.aof, "appendonly.aof.999999.incr.aof"), []byte(text.String()), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *run) spoilGuard(e *evidence) {
	guard := guardPrefix + "{" + writer.PrefixJSON(4) + r.row(4, "id") + "}"
	r.lies(e, []string{"HSET", guard, "t", "1"})
}

func (r *run) spoilValue(e *evidence) {
	for _, path := range e.ledgers {
		lines, err := ledger.Read(path)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, l := range lines {
			if l.Op == ledger.RolledBack && l.Serial != "" && !strings.HasPrefix(l.Serial, writer.DoomedPrefix) {
				r.lies(e, []string{"HSET", writer.PrefixHash(2) + "1", "id", "1", "serial", l.Serial})
				return
			}
		}
	}
	r.t.Fatal("nothing was rolled back but on purpose")
}

// spoilLedger takes the line in the middle of a ledger away.
func (r *run) spoilLedger(e *evidence) {
	path := e.ledgers[0]
	text, err := os.ReadFile(path)
	if err != nil {
		r.t.Fatal(err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	middle := len(lines) / 2
	copied := filepath.Join(r.t.TempDir(), "spoiled.ledger")
	if err := os.WriteFile(copied, []byte(strings.Join(lines[:middle], "")+strings.Join(lines[middle+1:], "")), 0o600); err != nil {
		r.t.Fatal(err)
	}
	e.ledgers[0] = copied
}
