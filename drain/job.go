package drain

import (
	"fmt"
	"strings"
	"time"
)

// hurryFor is how long the end of an instance's transactions is watched closely.
const hurryFor = 10 * time.Second

// job is the wish to have the transactions of an ended instance ended, at one source. Its fields are guarded by the watcher's mu.
type job struct {
	instance string
	began    time.Time
	news     func() // called when it is done or begins to wait; must not block

	ended   int    // connections
	waiting string // what it waits for, when the source does not answer
	done    bool
	detail  string // what it came to
}

// adopt begins a job. Which transactions end is the policy's to say: the job only sees to it that somebody looks.
func (w *watcher) adopt(instance string, news func()) *job {
	w.roster.forget()
	j := &job{instance: instance, began: time.Now(), news: news}
	w.mu.Lock()
	w.jobs[j] = true
	w.mu.Unlock()
	w.poke()
	return j
}

// drop ends the interest in a job.
func (w *watcher) drop(j *job) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.jobs, j)
}

func (w *watcher) state(j *job) (done bool, detail, waiting string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return j.done, j.detail, j.waiting
}

// openJobs are those that a reading which begins now can judge.
func (w *watcher) openJobs() []*job {
	w.mu.Lock()
	defer w.mu.Unlock()
	var open []*job
	for j := range w.jobs {
		if !j.done {
			open = append(open, j)
		}
	}
	return open
}

func (w *watcher) hurried() bool {
	for _, j := range w.openJobs() {
		if time.Since(j.began) < hurryFor {
			return true
		}
	}
	return false
}

func (w *watcher) countEnded(t *tracked) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for j := range w.jobs {
		if j.instance == t.claim.instance {
			j.ended++
		}
	}
}

// judgeJobs closes the jobs that have nothing left to wait for.
func (w *watcher) judgeJobs(jobs []*job) {
	for _, j := range jobs {
		open, rows, alone, why := 0, uint64(0), 0, ""
		for _, t := range w.tracked {
			switch {
			case t.claim.instance != j.instance:
			case t.verdict.kill || t.verdict.wait:
				open, rows, why = open+1, rows+t.RowsModified, t.verdict.why
			default:
				alone, why = alone+1, t.verdict.why
			}
		}
		w.mu.Lock()
		j.waiting = ""
		if late := time.Since(j.began) > w.task.config.RollbackMax; late || open == 0 && !w.partial {
			j.close(j.report(open, rows, alone, why))
		}
		w.mu.Unlock()
	}
}

func (j *job) close(detail string) {
	j.done, j.detail = true, detail
	j.news()
}

// waits notes that the source does not answer, and gives up when it has not for too long.
func (j *job) waits(why string, limit time.Duration) {
	news := j.waiting != why
	j.waiting = why
	switch {
	case j.done:
	case time.Since(j.began) > limit:
		j.close(fmt.Sprintf("gave up after %v: %s", limit, why))
	case news:
		j.news()
	}
}

func (j *job) report(open int, rows uint64, alone int, why string) string {
	var parts []string
	if j.ended > 0 {
		parts = append(parts, fmt.Sprintf("%d ended", j.ended))
	}
	if open > 0 {
		parts = append(parts, fmt.Sprintf("%d still open with %d rows (%s)", open, rows, why))
	}
	if alone > 0 {
		parts = append(parts, fmt.Sprintf("%d %s", alone, why))
	}
	if len(parts) == 0 {
		return "none open"
	}
	return strings.Join(parts, ", ")
}
