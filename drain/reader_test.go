package drain

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/mysql"
)

// timedReader notes when readings came back.
type timedReader struct {
	Reader
	mu    sync.Mutex
	times []time.Time
}

func (r *timedReader) Read(ctx context.Context, from time.Duration) (mysql.Reading, error) {
	reading, err := r.Reader.Read(ctx, from)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.times = append(r.times, time.Now())
	return reading, err
}

func (r *timedReader) reads() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.times)
}

func (r *timedReader) least() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	least := time.Hour
	for i := 1; i < len(r.times); i++ {
		least = min(least, r.times[i].Sub(r.times[i-1]))
	}
	return least
}

// scripted is a reader that shows what it is told.
type scripted struct {
	reading  mysql.Reading
	killed   []uint64
	outcomes map[uint64]mysql.KillOutcome
}

func (s *scripted) Read(context.Context, time.Duration) (mysql.Reading, error) { return s.reading, nil }

func (s *scripted) Processes(_ context.Context, threads []uint64) (map[uint64]mysql.Process, error) {
	found := map[uint64]mysql.Process{}
	for _, thread := range threads {
		found[thread] = mysql.Process{User: "app", Host: "10.0.0.1:1", Command: "Sleep"}
	}
	return found, nil
}

func (s *scripted) Kill(_ context.Context, _ mysql.Reading, seen []mysql.Seen) ([]mysql.KillOutcome, error) {
	outcomes := make([]mysql.KillOutcome, len(seen))
	for i := range seen {
		s.killed = append(s.killed, seen[i].Thread)
		if outcomes[i] = s.outcomes[seen[i].Thread]; outcomes[i] == "" {
			outcomes[i] = mysql.KillDone
		}
	}
	return outcomes, nil
}

func (s *scripted) MayKill(context.Context) (may, known bool, err error) { return true, true, nil }
func (s *scripted) Release()                                             {}

func watcherOf(t *testing.T, log *testLog, reader Reader, change func(*Config, *Watch)) (*watcher, *lines) {
	t.Helper()
	config, watch, out := Default(), DefaultWatch(), &lines{}
	if change != nil {
		change(&config, &watch)
	}
	task, err := New(config, Parts{Log: log, Sources: map[string]Source{source: {Reader: reader, Watch: watch}}, Logger: slog.New(slog.NewTextHandler(out, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return newRun(task).watchers[source], out
}

func TestWatch_LongTransactionIsLoggedOnceAndAtEachDoublingAndInBoundedNumber(t *testing.T) {
	t.Parallel()
	reader := &scripted{}
	w, out := watcherOf(t, newTestLog(t), reader, nil)
	for age := 50 * time.Second; age <= 500*time.Second; age += time.Second {
		reader.reading.Transactions = []mysql.Transaction{{Trx: "7", Thread: 5, StartedAt: 1000, Age: age}}
		if err := w.take(t.Context(), reader.reading); err != nil {
			t.Fatal(err)
		}
	}
	if n := out.count("open for long"); n != 4 { // at 60, 120, 240, 480 seconds
		t.Errorf("logged %d times, want 4", n)
	}
	reader.reading.Transactions = nil
	for i := range 3 * lookedUpMax {
		reader.reading.Transactions = append(reader.reading.Transactions, mysql.Transaction{Trx: "9", Thread: uint64(100 + i), StartedAt: 2000, Age: time.Hour})
	}
	for range 3 {
		if err := w.take(t.Context(), reader.reading); err != nil {
			t.Fatal(err)
		}
	}
	if n := out.count("a transaction is open for long"); n != 4+linesAtOnceMax {
		t.Errorf("%d lines for a crowd", n-4)
	}
	if _, shown := w.snapshot(); len(shown) != shownMax || len(w.tracked) != lookedUpMax {
		t.Errorf("%d shown and %d tracked of a crowd", len(shown), len(w.tracked))
	}
}

// A reading of a reader that cannot show all is no proof that nothing is open.
func TestWatch_NoAdoptionEndsOnAReadingThatIsNotWhole(t *testing.T) {
	t.Parallel()
	log := newTestLog(t)
	reader := &scripted{}
	w, _ := watcherOf(t, log, reader, nil)
	w.roster.changed = make(chan struct{})
	j := w.adopt("i", func() {})
	for _, whole := range []bool{false, true} {
		reader.reading.Whole = whole
		w.look(t.Context())
		if done, detail, _ := w.state(j); done != whole {
			t.Errorf("whole %v: done %v, %q", whole, done, detail)
		}
	}
}

// The word that something changed may come later than the change: an adoption that was begun in between must not take what was read before
// for the present, and find that the instance may have its transactions.
func TestWatch_AdoptionLooksAtTheStateAnew(t *testing.T) {
	t.Parallel()
	log := newTestLog(t)
	m := log.register(t, "a")
	log.report(t, m, source, 5)
	w, _ := watcherOf(t, log, &scripted{}, nil)
	w.roster.changed = make(chan struct{}) // which never comes
	if c := w.roster.claims(source, map[uint64]bool{5: true}, log.Now())[5]; c.doom != "" {
		t.Fatalf("%+v", c)
	}
	log.lose(t, m)
	w.adopt(m.id, func() {})
	if c := w.roster.claims(source, map[uint64]bool{5: true}, log.Now())[5]; c.doom == "" {
		t.Errorf("%+v", c)
	}
}

// dead is a reader of a server that is down.
type dead struct{ scripted }

func (*dead) Read(context.Context, time.Duration) (mysql.Reading, error) {
	return mysql.Reading{}, mysql.ErrUnreachable
}

func TestWatch_SourceThatIsDownIsNotAskedMoreOftenBecauseManyWait(t *testing.T) {
	t.Parallel()
	config := Default()
	config.RetryMin, config.RetryMax = time.Hour, time.Hour
	reader := &timedReader{Reader: &dead{}}
	task, err := New(config, Parts{Log: newTestLog(t), Sources: map[string]Source{source: {Reader: reader, Watch: DefaultWatch()}}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	lead(t, task)
	until(t, "asked", func() bool {
		sources := task.Status().Sources
		return len(sources) == 1 && sources[0].Detail == mysql.ErrUnreachable.Error()
	})
	const wishes = 5
	for range wishes {
		task.running().watchers[source].poke()
		if _, err := task.Kill(t.Context(), TransactionID(source, 1, "1"), "why"); !errors.Is(err, ErrSourceUnreachable) {
			t.Errorf("Kill = %v", err)
		}
	}
	if n := reader.reads(); n != 1+wishes {
		t.Errorf("asked %d times: once, and once for each wish of an operator, is %d", n, 1+wishes)
	}
}

// The rule for whose transactions may be ended, case by case. Cluster time is 1,000 s after the state's beginning in each.
func TestPolicy_EndsOnlyWhatIsSurelyOwnedByWhoMustNotHaveIt(t *testing.T) {
	t.Parallel()
	const now = 1_000_000
	lost := claim{instance: "i", name: "a", doom: "its instance a is lost", reportedAt: now - 100_000, endedAt: now - 20_000}
	old := mysql.Transaction{Trx: "1", Thread: 5, State: "RUNNING", Age: 30 * time.Second}
	for name, c := range map[string]struct {
		policy    Policy
		users     []string
		claim     *claim
		trx       func(*mysql.Transaction)
		process   mysql.Process
		uptime    time.Duration
		lifeSince uint64
		ended     time.Duration
		kill      bool
	}{
		"lost":                                     {claim: &lost, kill: true},
		"nobody's":                                 {},
		"of a living instance":                     {claim: &claim{instance: "i", name: "a", reportedAt: now - 100_000}},
		"policy never":                             {policy: KillNever, claim: &lost},
		"server younger than the report":           {claim: &lost, uptime: 90 * time.Second},
		"server hardly older than the report":      {claim: &lost, uptime: 105 * time.Second},
		"server a little older, told to us":        {claim: &lost, uptime: 111 * time.Second, kill: true},
		"server a little older, told to another":   {claim: &lost, uptime: 111 * time.Second, lifeSince: now - 50_000},
		"server much older, told to another":       {claim: &lost, uptime: 2 * time.Hour, lifeSince: now - 50_000, kill: true},
		"begun after the end, told to another":     {claim: &lost, uptime: 2 * time.Hour, lifeSince: now - 50_000, trx: func(t *mysql.Transaction) { t.Age = 5 * time.Second }},
		"begun after the end, told to us":          {claim: &lost, trx: func(t *mysql.Transaction) { t.Age = 5 * time.Second }, kill: true},
		"being undone":                             {claim: &lost, trx: func(t *mysql.Transaction) { t.State = mysql.StateRollingBack }},
		"without a connection":                     {claim: &lost, trx: func(t *mysql.Transaction) { t.Thread = 0 }},
		"ended a moment ago":                       {claim: &lost, ended: time.Second},
		"ended long ago, to no avail":              {claim: &lost, ended: time.Minute, kill: true},
		"replication":                              {claim: &lost, process: mysql.Process{User: "system user"}},
		"owned, list without its user":             {claim: &lost, users: []string{"batch"}},
		"owned, list with its user":                {claim: &lost, users: []string{"app"}, kill: true},
		"all, not long":                            {policy: KillAll, users: []string{"app"}},
		"all, long":                                {policy: KillAll, users: []string{"app"}, trx: func(t *mysql.Transaction) { t.Age = time.Minute }, kill: true},
		"all, long, not on the list":               {policy: KillAll, users: []string{"batch"}, trx: func(t *mysql.Transaction) { t.Age = time.Hour }},
		"all, lost, neither long nor on the list":  {policy: KillAll, users: []string{"batch"}, claim: &lost, kill: true},
		"all, long, of a living instance, on list": {policy: KillAll, users: []string{"app"}, claim: &claim{instance: "i", name: "a", reportedAt: now - 100_000}, trx: func(t *mysql.Transaction) { t.Age = time.Hour }, kill: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, _ := watcherOf(t, newTestLog(t), &scripted{}, func(_ *Config, watch *Watch) {
				watch.KillUsers = c.users
				if c.policy != "" {
					watch.Kill = c.policy
				}
			})
			if w.lifeSince = c.lifeSince; c.lifeSince == 0 {
				w.lifeSince = lost.reportedAt
			}
			x := &tracked{Transaction: old, Process: mysql.Process{User: "app", Host: "10.0.0.1:1"}, connected: true}
			if c.claim != nil {
				x.claim, x.claimed = *c.claim, true
			}
			if c.process.User != "" {
				x.Process = c.process
			}
			if c.trx != nil {
				c.trx(&x.Transaction)
			}
			if c.ended != 0 {
				x.ended = time.Now().Add(-c.ended)
			}
			uptime := c.uptime
			if uptime == 0 {
				uptime = 24 * time.Hour
			}
			if got := w.judge(x, mysql.Reading{Uptime: uptime}, now); got.kill != c.kill {
				t.Errorf("%+v, want kill %v", got, c.kill)
			}
		})
	}
	w, _ := watcherOf(t, newTestLog(t), &scripted{}, nil)
	if got := w.judge(&tracked{Transaction: old, claim: lost, claimed: true}, mysql.Reading{Uptime: 24 * time.Hour}, now); got.kill {
		t.Error("what is not in the process list is to be ended")
	}
}

func TestRoster_LivingClaimCountsMostThenTheLatest(t *testing.T) {
	t.Parallel()
	log := newTestLog(t)
	old, alive, late := log.register(t, "old"), log.register(t, "alive"), log.register(t, "late")
	log.report(t, old, source, 1, 2)
	log.report(t, alive, source, 2, 3)
	log.advance(t, time.Second)
	log.report(t, late, source, 1, 4)
	log.lose(t, old)
	log.lose(t, late)
	changed, stop := log.Watch("instances", "")
	defer stop()
	r := &roster{log: log, changed: changed}
	got := r.claims(source, map[uint64]bool{1: true, 2: true, 3: true, 5: true}, log.Now())
	if got[1].instance != late.id || got[2].instance != alive.id || got[3].instance != alive.id || len(got) != 3 {
		t.Errorf("%+v", got)
	}
	log.lose(t, alive)
	if got := r.claims(source, map[uint64]bool{2: true}, log.Now()); got[2].doom == "" {
		t.Errorf("after a change: %+v", got)
	}
}

func TestConfig_RefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Config, *Watch){
		"threshold":      func(_ *Config, w *Watch) { w.Threshold = time.Millisecond },
		"too fast":       func(_ *Config, w *Watch) { w.Every = 249 * time.Millisecond },
		"policy":         func(_ *Config, w *Watch) { w.Kill = "always" },
		"all, no list":   func(_ *Config, w *Watch) { w.Kill = KillAll },
		"empty user":     func(_ *Config, w *Watch) { w.KillUsers = []string{""} },
		"outage":         func(c *Config, _ *Watch) { c.OutageMax = -1 },
		"settle":         func(c *Config, _ *Watch) { c.PoolsSettle = -1 },
		"no wait":        func(c *Config, _ *Watch) { c.RollbackMax = 0 },
		"no cleanups":    func(c *Config, _ *Watch) { c.CleanupsMax = 0 },
		"retry backward": func(c *Config, _ *Watch) { c.RetryMax = 1 },
	} {
		config, watch := Default(), DefaultWatch()
		change(&config, &watch)
		if _, err := New(config, Parts{Log: newTestLog(t), Logger: slog.New(slog.DiscardHandler), Sources: map[string]Source{source: {Reader: &scripted{}, Watch: watch}}}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := errors.Join(Default().Validate(), DefaultWatch().Validate()); err != nil {
		t.Error(err)
	}
}
