package main

import (
	"fmt"
	"io"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/quiescehq/quiesce/api"
)

const (
	differenceWidth = 100 // characters of each side that are shown
	contextBefore   = 40  // of them before the first difference, when the beginning does not fit
)

// passView shows a pass as it goes on: on a terminal a picture that is drawn anew, elsewhere a line for each change. Programs get the end only.
type passView struct {
	cli    *cli
	screen *screen // nil: lines
	last   string
}

func newPassView(c *cli) *passView {
	v := &passView{cli: c}
	if c.format == formatTable {
		v.screen = newScreen(c.out, c.getenv("TERM"))
	}
	return v
}

func (v *passView) show(p api.Pass) error {
	if v.cli.format != formatTable {
		return nil
	}
	if v.screen != nil {
		return v.screen.draw(passPicture(p))
	}
	step := passStep(p)
	if step == v.last {
		return nil
	}
	v.last = step
	return v.cli.showLine(nil, time.Now().Format(time.TimeOnly)+"  "+passHead(p)+passSteps(p))
}

// passStep is what a line is worth: not each figure that moves.
func passStep(p api.Pass) string {
	step := fmt.Sprintf("%s %s %d", p.State, p.Phase, int(p.Percent)/10)
	if g := p.Progress; g != nil {
		why, _, _ := strings.Cut(g.Throttled, " ")
		step += " " + why
		if g.Waiting != waitConfirming {
			step += " " + g.Waiting
		}
	}
	return step
}

// waitConfirming is what a pass says while differences have to grow old.
const waitConfirming = "confirming"

func (v *passView) say(text string) {
	if v.screen != nil {
		v.screen.above("quiesce: " + plain(text) + "\n")
		return
	}
	v.cli.say(text)
}

// passHead is the pass in one line, without what changes by itself.
func passHead(p api.Pass) string {
	name := fmt.Sprintf("pass %d over %s", p.ID, p.Mapping)
	if p.ID == 0 {
		name = "comparing " + p.Mapping
	}
	line := fmt.Sprintf("%s (%s) is %s", name, strings.ReplaceAll(p.Mode, "_", " "), p.State)
	if p.State == api.PassRunning && p.Phase == api.PassPhaseKeys {
		line += ", looking for keys without a row"
	}
	if why := standsStill(p); why != "" {
		line += ", " + why
	}
	return line
}

// standsStill says what holds up a running pass.
func standsStill(p api.Pass) string {
	switch {
	case p.Progress == nil:
		return ""
	case p.Progress.Throttled != "":
		return "throttled: " + p.Progress.Throttled
	case p.Progress.Waiting == waitConfirming:
		return fmt.Sprintf("waiting for %d differences to grow old enough", p.Progress.Open)
	case p.Progress.Waiting != "":
		return "waiting: " + p.Progress.Waiting
	}
	return ""
}

// passSteps is how far it is in steps of ten percent, and what it found.
func passSteps(p api.Pass) string {
	line := ""
	if p.State == api.PassRunning && p.Percent > 0 && p.Percent < 100 {
		line = fmt.Sprintf(", %d%%", int(p.Percent)/10*10)
	}
	if n := foundIn(p); n > 0 {
		line += fmt.Sprintf(", %d differences", n)
	}
	return line
}

// passPicture is the pass with a bar.
func passPicture(p api.Pass) []string {
	lines := []string{plain(passHead(p))}
	full := min(barWidth, int(p.Percent*barWidth/100))
	bar := "  [" + strings.Repeat("#", full) + strings.Repeat(".", barWidth-full) + "]"
	if p.Estimate > 0 || p.Percent == 100 {
		bar += fmt.Sprintf(" %5.1f%%", p.Percent)
	}
	bar += fmt.Sprintf("  %s rows", thousands(p.Counts.Rows))
	if p.Estimate > 0 {
		bar += " of about " + thousands(p.Estimate)
	}
	if g := p.Progress; g != nil {
		bar += fmt.Sprintf(", %s a second", thousands(uint64(math.Round(g.RowsPerSecond))))
		if g.ETAMs > 0 {
			bar += ", " + span(g.ETAMs) + " left"
		}
	}
	lines = append(lines, bar)
	if k := p.Keys; k != nil && p.Phase == api.PassPhaseKeys {
		lines = append(lines, fmt.Sprintf("  %s keys gone over, %s of the mapping's form", thousands(k.Looked), thousands(k.Matched)))
	}
	if found := foundText(p); found != "" {
		lines = append(lines, "  "+found)
	}
	return lines
}

// foundText tells what a pass found, by class.
func foundText(p api.Pass) string {
	var parts []string
	add := func(n uint64, format string) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf(format, thousands(n)))
		}
	}
	c := p.Counts
	add(c.Stale, "%s stale")
	add(c.Missing, "%s missing")
	add(c.WrongType, "%s of another type")
	add(c.NoTTL, "%s without an expiry")
	if p.Keys != nil {
		add(p.Keys.Extra, "%s keys without a row")
	}
	add(c.FormatOnly, "%s only written differently")
	add(c.Hot, "%s hot, without a verdict")
	add(c.Repaired, "%s repairs enqueued")
	if p.Keys != nil {
		add(p.Keys.Removed, "%s removals enqueued")
	}
	if p.Progress != nil {
		add(uint64(max(p.Progress.Open, 0)), "%s being confirmed")
	}
	return strings.Join(parts, ", ")
}

// thousands groups digits.
func thousands(n uint64) string {
	digits := fmt.Sprint(n)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}

// noLimit is the allowance of a pass that has no cap, as one that ends a doubt.
const noLimit = 1<<53 - 1

func allowed(rows uint64) string {
	if rows >= noLimit {
		return "any number"
	}
	return thousands(rows)
}

func writePass(w io.Writer, p api.Pass) {
	about := &table{}
	if p.ID > 0 {
		about.add("pass", number(p.ID))
	}
	if p.Revision > 0 {
		about.add("mapping", fmt.Sprintf("%s, revision %d", p.Mapping, p.Revision))
	} else {
		about.add("mapping", p.Mapping)
	}
	about.add("mode", strings.ReplaceAll(p.Mode, "_", " "))
	about.add("looks at", scopeOfPass(p))
	state := p.State
	if why := standsStill(p); why != "" {
		state += ", " + why
	}
	about.add("state", state)
	if p.Reason != "" {
		about.add("why", p.Reason)
	}
	rows := thousands(p.Counts.Rows)
	if p.Estimate > 0 && p.State != api.PassDone {
		rows += fmt.Sprintf(" of about %s, %.1f%%", thousands(p.Estimate), p.Percent)
	}
	about.add("rows", rows)
	about.add("equal", thousands(p.Counts.Equal))
	about.add("found", orDash(foundText(p)))
	if b := p.Bound; b != nil {
		about.add("of all rows", fmt.Sprintf("at most %s differ, with %v%% confidence", percentText(b.ShareAtMost), 100*b.Confidence))
	}
	if p.Mode != api.PassDryRun {
		about.add("may repair", allowed(p.Allowance)+" without another word")
	}
	if p.Filled > 0 {
		about.add("filled", thousands(p.Filled)+" that were absent")
	}
	if p.Slot != "" {
		about.add("slot", p.Slot)
	}
	if p.Cause != "" {
		about.add("because", p.Cause)
	}
	if p.TookMs > 0 {
		about.add("took", span(p.TookMs))
	} else {
		about.add("runs for", span(p.AgeMs))
	}
	about.write(w)
}

// percentText is a part of one in percent, with two digits that count.
func percentText(x float64) string {
	if x >= 0.1 {
		return fmt.Sprintf("%.0f%%", 100*x)
	}
	return fmt.Sprintf("%.2g%%", 100*x)
}

// writeFound shows at most so many differences, both sides below each other.
func writeFound(w io.Writer, r passReport, most int) {
	total := foundIn(r.Pass)
	for _, d := range r.Differences[:min(most, len(r.Differences))] {
		fmt.Fprintln(w)
		writeDifference(w, d)
	}
	shown := uint64(min(most, len(r.Differences)))
	switch {
	case total == shown:
	case len(r.Differences) > most && r.Pass.ID > 0:
		fmt.Fprintf(w, "\n%s differences in all; quiesce reconcile differences %d shows %d\n", thousands(total), r.Pass.ID, len(r.Differences))
	case total > shown:
		fmt.Fprintf(w, "\n%s differences in all\n", thousands(total))
	}
}

// sides are what a difference shows of table and cache.
func sides(d api.Difference) (table, cache string) {
	table, cache = plain(d.Expected), plain(d.Actual)
	switch {
	case d.Class == api.ClassExtra:
		table = "(no row)"
	case table == "":
		table = "(nothing)"
	}
	if cache == "" {
		cache = "(nothing)"
	}
	if d.Class == api.VerdictNoTTL {
		cache = "(the same, without an expiry)"
	}
	return table, cache
}

func writeDifference(w io.Writer, d api.Difference) {
	fmt.Fprintf(w, "%s  %s\n", strings.ReplaceAll(d.Class, "_", " "), plain(d.Key))
	table, cache := sides(d)
	at := firstDifferent(table, cache)
	marked := at >= 0 && !strings.HasPrefix(table, "(") && !strings.HasPrefix(cache, "(")
	from := 0
	if marked && at >= differenceWidth {
		from = at - contextBefore
	}
	fmt.Fprintf(w, "  table  %s\n  cache  %s\n", window(table, from), window(cache, from))
	if marked {
		indent := at - from
		if from > 0 {
			indent++ // the mark of what was left out
		}
		fmt.Fprintf(w, "         %s^\n", strings.Repeat(" ", indent))
	}
}

// firstDifferent counts the characters that two texts begin with in common; -1 when they are the same.
func firstDifferent(a, b string) int {
	x, y := []rune(a), []rune(b)
	for i := range max(len(x), len(y)) {
		if i >= len(x) || i >= len(y) || x[i] != y[i] {
			return i
		}
	}
	return -1
}

// window shows a part of a text that begins at a character.
func window(text string, from int) string {
	if from == 0 {
		return cut(text, differenceWidth)
	}
	if from >= utf8.RuneCountInString(text) {
		return "…"
	}
	return "…" + cut(string([]rune(text)[from:]), differenceWidth)
}
