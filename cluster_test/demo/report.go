package main

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"text/tabwriter"
	"time"
)

// report collects what the run found. Progress goes to stderr while it runs, the result to stdout at its end.
type report struct {
	began time.Time

	mu       sync.Mutex
	progress io.Writer
	checks   []check
	figures  map[string]any
	complete bool // every phase ran to its end
}

type check struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Pass  bool   `json:"pass"`
}

func newReport(progress io.Writer) *report {
	return &report{began: time.Now(), progress: progress, checks: []check{}, figures: map[string]any{}}
}

func (r *report) say(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(r.progress, "%6.1f s  %s\n", time.Since(r.began).Seconds(), fmt.Sprintf(format, args...))
}

// check records a verdict, and tells it.
func (r *report) check(name string, pass bool, format string, args ...any) {
	c := check{Name: name, Value: fmt.Sprintf(format, args...), Pass: pass}
	r.mu.Lock()
	r.checks = append(r.checks, c)
	r.mu.Unlock()
	r.say("  %s  %s: %s", verdict(pass), c.Name, c.Value)
}

func (r *report) figure(name string, value any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.figures[name] = value
}

func (r *report) finish() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.complete = true
}

// ok holds when the run came to its end and no check failed.
func (r *report) ok() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.checks {
		if !c.Pass {
			return false
		}
	}
	return r.complete
}

func (r *report) print(out io.Writer, asJSON bool) error {
	r.figure("seconds", int(time.Since(r.began).Seconds()))
	ok := r.ok()
	if asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		return encoder.Encode(struct {
			OK      bool           `json:"ok"`
			Checks  []check        `json:"checks"`
			Figures map[string]any `json:"figures"`
		}{ok, r.checks, r.figures})
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, c := range r.checks {
		fmt.Fprintf(table, "%s\t%s\t%s\n", verdict(c.Pass), c.Name, c.Value)
	}
	fmt.Fprintf(table, "%s\tall of it\tin %v s\n", verdict(ok), r.figures["seconds"])
	return table.Flush()
}

func verdict(pass bool) string {
	if pass {
		return "PASS"
	}
	return "FAIL"
}
