package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client"
)

// Environment of a check.
const (
	envPlan        = "QUIESCE_PLAN"         // its number
	envPlanService = "QUIESCE_PLAN_SERVICE" // whose canary is observed
)

const (
	checkOutputMax = 4 << 10 // of what a check printed, the end is shown
	checkKillWait  = 2 * time.Second
	actPause       = time.Second // between two attempts to tell the cluster
)

// planChecks watches the canary of a plan with a command, and tells the plan to end or to go on. One goroutine, run, owns all but the
// channel.
type planChecks struct {
	how      *planWatched
	cli      *cli
	path, id string
	view     *planView
	plans    chan api.Plan // holds the newest

	now    api.Plan
	due    time.Time // of the next check
	passed int       // checks of the observation that is under way
	done   bool      // nothing more to do until the plan changes
}

func newPlanChecks(how *planWatched, c *cli, path, id string, view *planView) *planChecks {
	return &planChecks{how: how, cli: c, path: path, id: id, view: view, plans: make(chan api.Plan, 1)}
}

// hear takes in how the plan stands, in place of what was not looked at yet. Only one goroutine calls it.
func (k *planChecks) hear(p api.Plan) {
	select {
	case <-k.plans:
	default:
	}
	k.plans <- p
}

// run lasts until ctx ends.
func (k *planChecks) run(ctx context.Context) {
	for ctx.Err() == nil {
		timer := time.NewTimer(k.wait())
		select {
		case <-ctx.Done():
		case p := <-k.plans:
			k.take(p)
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() == nil {
			k.step(ctx)
		}
	}
}

// take notices a new observation, which begins without any check. What was read before the plan was told something is old by now.
func (k *planChecks) take(p api.Plan) {
	if p.Index < k.now.Index {
		return
	}
	if p.Step != k.now.Step || observing(p) && !observing(k.now) && !observed(k.now) {
		k.passed, k.due = 0, time.Time{}
	}
	if p.Index != k.now.Index {
		k.done = false
	}
	k.now = p
}

// idle is how long to wait when only the plan can change anything.
const idle = time.Hour

func (k *planChecks) wait() time.Duration {
	if k.done || !observing(k.now) && !observed(k.now) {
		return idle
	}
	return max(0, time.Until(k.due))
}

// observing tells whether the canary is looked at now.
func observing(p api.Plan) bool { return p.State == api.PlanRunning && p.Stage == stageObserving }

// observed tells whether the plan has observed its canary and waits to be resumed. One that somebody paused before is still in the stage of
// the canary or of the observation, one that somebody paused later has asked more instances to stop.
func observed(p api.Plan) bool {
	step := stepOf(p)
	return p.State == api.PlanPaused && p.Stage == stageWaves && len(step.Targets) >= step.Canary &&
		!slices.ContainsFunc(step.Targets[step.Canary:], func(t api.PlanTarget) bool { return t.State != api.TargetPending && t.State != api.TargetSkipped })
}

// Stages of a step that matter here.
const (
	stageObserving = "observing"
	stageWaves     = "waves"
)

// step makes a check when one is due, and one more when the observation is over: what broke in its last moments is to be seen.
func (k *planChecks) step(ctx context.Context) {
	over := observed(k.now)
	if k.done || !observing(k.now) && !over || time.Now().Before(k.due) && !over {
		return
	}
	output, err := k.check(ctx)
	k.due = time.Now().Add(k.how.checkEvery)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		k.view.say(fmt.Sprintf("the check failed: %s", err), output)
		k.tell(ctx, "cancel", api.PlanWish{Reason: k.reason(err), Failed: true})
	case over && k.how.goOn:
		k.view.say(fmt.Sprintf("%d checks passed while %s was observed: the plan goes on", k.passed+1, stepOf(k.now).Service), "")
		k.tell(ctx, "resume", api.PlanWish{Reason: fmt.Sprintf("%d checks passed", k.passed+1)})
	default:
		k.passed++
		k.done = over // a person resumes it
	}
}

func (k *planChecks) reason(err error) string {
	text := fmt.Sprintf("check failed: %s: %s", err, k.how.check)
	return strings.ToValidUTF8(text[:min(len(text), api.ReasonBytesMax)], "")
}

// tell says it to the cluster until it is heard: a canary that failed its check must not be left running on.
func (k *planChecks) tell(ctx context.Context, verb string, wish api.PlanWish) {
	for {
		p, err := k.cli.wishPlan(ctx, k.path, verb, wish)
		var refused *client.Error
		switch {
		case err == nil:
			k.take(p)
			return
		case ctx.Err() != nil:
			return
		case errors.As(err, &refused) && !errors.Is(err, client.ErrUnavailable) && !errors.Is(err, client.ErrOutcomeUnknown):
			k.view.say(fmt.Sprintf("plan %s does not %s: %s", k.id, verb, sentenceOf(err)), "")
			k.done = true
			return
		}
		k.view.say(fmt.Sprintf("plan %s cannot be told to %s, and is told again: %s", k.id, verb, sentenceOf(err)), "")
		if pauseUntil(ctx, time.Now().Add(actPause)) != nil {
			return
		}
	}
}

// check runs the command once, with all that it starts in a group that is killed when its time is over.
func (k *planChecks) check(ctx context.Context) (output string, err error) {
	ctx, cancel := context.WithTimeout(ctx, k.how.checkTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", k.how.check)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = checkKillWait // for what left the group and has the pipe open
	cmd.Env = append(os.Environ(), client.EnvAddrs+"="+strings.Join(k.cli.addrs, ","), envPlan+"="+k.id, envPlanService+"="+stepOf(k.now).Service)
	end := &tail{max: checkOutputMax}
	cmd.Stdout, cmd.Stderr = end, end
	err = cmd.Run()
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("it took longer than %s", k.how.checkTimeout)
	}
	return end.String(), err
}

// tail keeps the end of what is written.
type tail struct {
	bytes.Buffer
	max int
}

func (t *tail) Write(p []byte) (int, error) {
	n := len(p)
	if len(p) > t.max {
		p = p[len(p)-t.max:]
	}
	if over := t.Len() + len(p) - t.max; over > 0 {
		t.Next(over)
	}
	_, _ = t.Buffer.Write(p) // never fails
	return n, nil
}
