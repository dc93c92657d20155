package drain

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/quiescehq/quiesce/mysql"
)

// Privileges that an account may lack.
const (
	privilegeProcess = "PROCESS"
	privilegeKill    = "CONNECTION ADMIN"
)

// watcher is the one reader of one source. All fields but those noted belong to the goroutine of run.
type watcher struct {
	task   *Task
	name   string
	watch  Watch
	reader Reader
	roster *roster // has its own lock
	logger *slog.Logger

	failures   int
	said       string // why it cannot be read, as last logged
	tracked    map[key]*tracked
	partial    bool // the last reading, or what is tracked of it, is not all
	life       mysql.Life
	lifeSince  uint64    // cluster time from which on reports are surely about this life
	grantsFrom uint64    // reader's connection by which the grants were looked at
	grantsAt   time.Time // and when

	manual chan *killRequest
	poked  chan struct{}

	mu      sync.Mutex
	status  SourceStatus // as of the last reading
	shown   []Transaction
	seenAt  time.Time
	missing map[string]bool
	jobs    map[*job]bool
}

func newWatcher(t *Task, name string, roster *roster) *watcher {
	source := t.Sources[name]
	return &watcher{task: t, name: name, watch: source.Watch, reader: source.Reader, roster: roster, logger: t.Logger.With("source", name),
		tracked: map[key]*tracked{}, manual: make(chan *killRequest), poked: make(chan struct{}, 1),
		status:  SourceStatus{Source: name, Threshold: source.Watch.Threshold, Policy: source.Watch.Kill, Detail: "not read yet"},
		missing: map[string]bool{}, jobs: map[*job]bool{}}
}

// run reads until ctx ends. While the source does not answer it is asked less and less often, whoever waits for it.
func (w *watcher) run(ctx context.Context) error {
	defer w.reader.Release()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		poked := w.poked
		if w.failures > 0 {
			poked = nil
		}
		select {
		case <-ctx.Done():
			return nil
		case request := <-w.manual:
			request.answer <- w.killManually(ctx, request)
			continue
		case <-poked:
		case <-timer.C:
		}
		timer.Reset(w.look(ctx))
	}
}

// look reads once, acts, and tells when to read again.
func (w *watcher) look(ctx context.Context) time.Duration {
	began := w.openJobs()
	reading, err := w.reader.Read(ctx, w.watch.Threshold)
	if err == nil {
		err = w.take(ctx, reading)
	}
	if ctx.Err() != nil {
		return w.watch.Every
	}
	if err != nil {
		w.fail(err)
		return w.task.config.backoff(w.failures)
	}
	w.failures = 0
	w.recovered()
	w.judgeJobs(began)
	if w.hurried() {
		return mysql.TransactionReadsEvery
	}
	return w.watch.Every
}

// fail notes why the source cannot be read, and says it once.
func (w *watcher) fail(err error) {
	w.failures++
	why := reason(err)
	if errors.Is(err, mysql.ErrLacksProcess) {
		w.lacks(privilegeProcess)
	}
	if why != w.said {
		w.said = why
		w.logger.Warn("transactions of the source are not seen", "reason", why)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status.Reachable, w.status.Watched, w.status.Detail, w.status.Long, w.status.Oldest = errors.Is(err, mysql.ErrLacksProcess), false, why, 0, 0
	w.shown = nil // nobody knows which of them are still open
	for j := range w.jobs {
		j.waits(why, w.task.config.UnreachableMax)
	}
}

func (w *watcher) recovered() {
	if w.said != "" {
		w.logger.Info("transactions of the source are seen again")
		w.said = ""
	}
	w.has(privilegeProcess)
}

// reason is a class of failure, never a driver's text, which may hold addresses and accounts.
func reason(err error) string {
	for _, class := range []error{mysql.ErrLacksProcess, mysql.ErrUnreachable, mysql.ErrDenied} {
		if errors.Is(err, class) {
			return class.Error()
		}
	}
	return "failed"
}

// lacks notes a privilege that is missing, and says it once.
func (w *watcher) lacks(privilege string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.missing[privilege] {
		w.missing[privilege] = true
		w.logger.Warn("the account that watches transactions lacks a privilege", "privilege", privilege)
	}
}

func (w *watcher) has(privilege string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.missing, privilege)
}

// lookAtGrants finds out before it is needed whether other users' connections could be ended.
func (w *watcher) lookAtGrants(ctx context.Context, reading mysql.Reading) error {
	if w.watch.Kill == KillNever || w.grantsFrom == reading.Connection && time.Since(w.grantsAt) < grantsEvery {
		return nil
	}
	may, known, err := w.reader.MayKill(ctx)
	if err != nil {
		return err
	}
	w.grantsFrom, w.grantsAt = reading.Connection, time.Now()
	switch {
	case may:
		w.has(privilegeKill)
	case known:
		w.lacks(privilegeKill)
	}
	return nil
}

// poke asks for a reading soon.
func (w *watcher) poke() {
	select {
	case w.poked <- struct{}{}:
	default:
	}
}
