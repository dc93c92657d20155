package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/quiescehq/quiesce/api"
)

// planView shows a plan as it goes on: on a terminal a picture that is drawn anew, elsewhere a line for each change.
type planView struct {
	cli    *cli
	screen *screen // nil: lines

	mu      sync.Mutex
	head    string            // that was printed last
	targets map[string]string // and of each instance
}

func newPlanView(c *cli) *planView {
	v := &planView{cli: c, targets: map[string]string{}}
	if c.format == formatTable {
		v.screen = newScreen(c.out, c.getenv("TERM"))
	}
	return v
}

// show takes in how the plan stands.
func (v *planView) show(p api.Plan) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.screen != nil {
		width, height := v.screen.room()
		return v.screen.draw(planPicture(p, width, height))
	}
	head, news := planHead(p), v.news(p)
	if head == v.head && len(news) == 0 {
		return nil
	}
	now := time.Now().Format(time.TimeOnly) + "  "
	v.head = head
	if v.cli.format != formatTable {
		return v.cli.showLine(p, "")
	}
	for _, line := range append(news, head) {
		if err := v.cli.showLine(p, now+line); err != nil {
			return err
		}
	}
	return nil
}

// say tells a person something beside the plan, with the text of another program below it.
func (v *planView) say(text, output string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	text = "quiesce: " + plain(text) + "\n"
	for line := range strings.Lines(output) {
		text += "  | " + plain(strings.TrimRight(line, "\r\n")) + "\n"
	}
	if v.screen != nil {
		v.screen.above(text)
		return
	}
	fmt.Fprint(v.cli.err, text)
}

// news are the instances that have changed.
func (v *planView) news(p api.Plan) []string {
	var news []string
	for _, step := range p.Steps {
		for _, t := range step.Targets {
			line := targetLine(step, t)
			known, seen := v.targets[t.ID]
			v.targets[t.ID] = line
			if known != line && (seen || t.State != api.TargetPending) {
				news = append(news, line)
			}
		}
	}
	return news
}

func targetLine(s api.PlanStep, t api.PlanTarget) string {
	line := fmt.Sprintf("%s/%s is %s", s.Service, t.Name, t.State)
	if t.Successor != "" {
		line += ", successor " + t.Successor
	}
	if t.Why != "" {
		line += ": " + t.Why
	}
	return line
}

// planHead is the plan in one line, without what changes by itself.
func planHead(p api.Plan) string {
	line := fmt.Sprintf("plan %d is %s, %d of %d done", p.ID, planState(p), p.Done, p.Total)
	if p.Failures > 0 {
		line += fmt.Sprintf(", %d failed", p.Failures)
	}
	if p.Why != "" {
		line += ": " + p.Why
	}
	return line
}

// planPicture draws a plan into so many columns and lines: what happens now comes first.
func planPicture(p api.Plan, width, height int) []string {
	lines := []string{plain(planHead(p)), times(p)}
	for i, s := range p.Steps {
		lines = append(lines, stepLine(i, s, width))
	}
	moving := movingTargets(p)
	room := height - len(lines)
	if room < len(moving) {
		hidden := len(moving) - max(0, room-1)
		moving = append(moving[:max(0, room-1)], fmt.Sprintf("    and %d more", hidden))
	}
	lines = append(lines, moving...)
	return lines[:min(len(lines), height)]
}

// times are what changes by itself.
func times(p api.Plan) string {
	parts := []string{"runs for " + span(p.RunsForMs)}
	if p.ObserveRemainingMs > 0 {
		parts = append(parts, "observes "+span(p.ObserveRemainingMs)+" more")
	}
	if p.DeadlineInMs > 0 {
		parts = append(parts, "deadline in "+span(p.DeadlineInMs))
	}
	return "  " + strings.Join(parts, ", ")
}

const barWidth = 20

// stepLine is a service with a bar: # through, > under way.
func stepLine(i int, s api.PlanStep, width int) string {
	through, moving := 0, 0
	for _, t := range s.Targets {
		switch t.State {
		case api.TargetPending:
		case api.TargetQueued, api.TargetDraining, api.TargetWaiting:
			moving++
		default:
			through++
		}
	}
	bar := strings.Repeat(".", barWidth)
	if total := len(s.Targets); total > 0 {
		full, part := through*barWidth/total, (through+moving)*barWidth/total
		bar = strings.Repeat("#", full) + strings.Repeat(">", part-full) + strings.Repeat(".", barWidth-part)
	}
	return cut(fmt.Sprintf("  %d. [%s] %d/%d  %s  %s", i+1, bar, through, len(s.Targets), plain(s.Service), s.State), width)
}

// movingTargets are the instances of the step under way that there is something to say of.
func movingTargets(p api.Plan) []string {
	var lines []string
	step := stepOf(p)
	for _, t := range step.Targets {
		if t.State != api.TargetPending && t.State != api.TargetDone && t.State != api.TargetSkipped {
			lines = append(lines, plain("    "+targetLine(step, t)))
		}
	}
	return lines
}
