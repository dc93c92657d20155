package drain

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/quiescehq/quiesce/fsm"
)

// adopter takes every lost or forced instance through its steps. Its fields belong to the goroutine of run.
type adopter struct {
	term  *run
	task  *Task
	under map[string]*adoption // by id
	news  chan struct{}
}

// adoption is one instance under way. What it did is in the state; the rest is found out anew by the next leader.
type adoption struct {
	id          string
	incarnation uint64
	name        string
	sources     []string
	keys        bool // done
	jobs        map[string]*job
	noted       bool // the state says that it waits

	prepared int       // prepares that were open when this leader began
	fences   bool      // what it had prepared is resolved, or was waited for long enough
	until    time.Time // end of that wait
	failures int
	retry    time.Time // nothing is proposed before
}

func newAdopter(r *run) *adopter {
	return &adopter{term: r, task: r.task, under: map[string]*adoption{}, news: make(chan struct{}, 1)}
}

func (a *adopter) run(ctx context.Context) error {
	instances, stop := a.task.Log.Watch("instances", "")
	defer stop()
	prepared, stopPrepared := a.task.Log.Watch("prepared", "")
	defer stopPrepared()
	alarm := time.NewTimer(time.Hour)
	defer alarm.Stop()
	for ctx.Err() == nil {
		a.adjust()
		alarm.Reset(a.step(ctx))
		select {
		case <-ctx.Done():
		case <-instances:
		case <-prepared:
		case <-a.news:
		case <-alarm.C:
		}
	}
	return nil
}

// adjust forgets those that are adopted and begins with those that are not.
func (a *adopter) adjust() {
	listed := map[string]bool{}
	a.task.Log.View(func(s *fsm.State) {
		s.Unadopted(func(v fsm.Instance) bool {
			listed[v.ID] = true
			if a.under[v.ID] == nil {
				a.under[v.ID] = begin(v, s.PreparedOf(v.ID), a.task.config)
			}
			return true
		})
	})
	for id, x := range a.under {
		if !listed[id] {
			a.forget(x)
		}
	}
}

func begin(v fsm.Instance, prepared int, config Config) *adoption {
	x := &adoption{id: v.ID, incarnation: v.Incarnation, name: v.Name, jobs: map[string]*job{}, prepared: prepared, fences: prepared == 0,
		until: time.Now().Add(config.UnreachableMax)}
	for _, c := range v.Connections {
		if len(c.IDs) > 0 && !slices.Contains(x.sources, c.Source) {
			x.sources = append(x.sources, c.Source)
		}
	}
	// Steps that an earlier leader logged are not done twice.
	x.keys = slices.ContainsFunc(v.Adoption, func(step fsm.AdoptionStep) bool { return step.Step == fsm.AdoptKeys })
	x.noted = slices.ContainsFunc(v.Adoption, func(step fsm.AdoptionStep) bool { return step.Step == fsm.AdoptTransactions })
	return x
}

func (a *adopter) forget(x *adoption) {
	for source, j := range x.jobs {
		a.term.watchers[source].drop(j)
	}
	delete(a.under, x.id)
}

// step does what can be done for each, and tells when to try again.
func (a *adopter) step(ctx context.Context) time.Duration {
	next := time.Hour
	for _, id := range slices.Sorted(maps.Keys(a.under)) {
		x := a.under[id]
		if wait := time.Until(x.retry); wait > 0 {
			next = min(next, wait)
			continue
		}
		if err := a.advance(ctx, x); err != nil && ctx.Err() == nil {
			x.failures++
			wait := a.task.config.backoff(x.failures)
			x.retry = time.Now().Add(wait)
			next = min(next, wait)
			if x.failures == 1 {
				a.task.Logger.Warn("a step of an adoption was not logged, it is tried again", "instance", x.id, "error", err)
			}
		}
		if !x.fences {
			next = min(next, max(time.Until(x.until), 0))
		}
	}
	return next
}

// advance does the steps in their order. Ending of transactions begins at once: no lock on a row waits for the keys.
func (a *adopter) advance(ctx context.Context, x *adoption) error {
	a.startJobs(x)
	if !x.keys {
		if err := a.log(ctx, x, fsm.AdoptInstance{Step: fsm.AdoptKeys}); err != nil {
			return err
		}
		x.keys = true
	}
	if err := a.lookAtFences(ctx, x); err != nil {
		return err
	}
	details, waiting, done := a.outcome(x)
	switch {
	case done && x.fences:
		if err := a.log(ctx, x, fsm.AdoptInstance{Step: fsm.AdoptTransactions, Detail: clip(details)}, fsm.AdoptInstance{Step: fsm.AdoptDone, Detail: "adopted"}); err != nil {
			return err
		}
		a.task.Logger.Info("adopted what an instance left behind", "instance", x.id, "name", x.name, "transactions", details)
		a.forget(x)
	case waiting != "" && !x.noted:
		if err := a.log(ctx, x, fsm.AdoptInstance{Step: fsm.AdoptTransactions, Detail: clip(waiting)}); err != nil {
			return err
		}
		x.noted = true
	}
	x.failures = 0
	return nil
}

// lookAtFences waits for the relays, which find out whether the transactions that the instance had announced are over.
func (a *adopter) lookAtFences(ctx context.Context, x *adoption) error {
	if x.fences {
		return nil
	}
	open := 0
	a.task.Log.View(func(s *fsm.State) { open = s.PreparedOf(x.id) })
	detail := fmt.Sprintf("%d transactions that it had announced are over", x.prepared)
	switch {
	case open > 0 && time.Now().Before(x.until):
		return nil
	case open > 0:
		detail = fmt.Sprintf("gave up waiting for %d transactions that it had announced; their events are delivered when they are over", open)
	}
	if err := a.log(ctx, x, fsm.AdoptInstance{Step: fsm.AdoptPrepared, Detail: detail}); err != nil {
		return err
	}
	x.fences = true
	return nil
}

func (a *adopter) startJobs(x *adoption) {
	for _, source := range x.sources {
		if w := a.term.watchers[source]; w != nil && x.jobs[source] == nil {
			x.jobs[source] = w.adopt(x.id, a.tell)
		}
	}
}

// outcome puts the sources' answers together.
func (a *adopter) outcome(x *adoption) (details, waiting string, done bool) {
	if len(x.sources) == 0 {
		return "no connections were reported", "", true
	}
	var answers, waits []string
	for _, source := range x.sources {
		j := x.jobs[source]
		if j == nil {
			answers = append(answers, source+": this node's configuration names no such source")
			continue
		}
		switch done, detail, waiting := a.term.watchers[source].state(j); {
		case done:
			answers = append(answers, source+": "+detail)
		case waiting != "":
			waits = append(waits, source+": "+waiting)
		}
	}
	if len(waits) > 0 {
		waiting = "waiting for " + strings.Join(waits, "; ")
	}
	return strings.Join(answers, "; "), waiting, len(answers) == len(x.sources)
}

// tell wakes the adopter.
func (a *adopter) tell() {
	select {
	case a.news <- struct{}{}:
	default:
	}
}

// log proposes steps. That there is nothing to adopt any more is no error: an earlier proposal of the same steps came through after all.
func (a *adopter) log(ctx context.Context, x *adoption, steps ...fsm.AdoptInstance) error {
	commands := make([]fsm.Command, len(steps))
	for i, step := range steps {
		step.ID, step.Incarnation = x.id, x.incarnation
		commands[i] = step
	}
	results, err := a.task.propose(ctx, commands...)
	if err != nil {
		return err
	}
	for i, r := range results {
		if r.Refused() && r.Code != fsm.CodeInstanceState && r.Code != fsm.CodeInstanceNotFound {
			return fmt.Errorf("step %s refused: %s: %s", steps[i].Step, r.Code, r.Detail)
		}
	}
	return nil
}

func clip(detail string) string {
	return strings.ToValidUTF8(detail[:min(len(detail), fsm.ErrorBytesMax)], "")
}
