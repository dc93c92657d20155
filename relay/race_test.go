package relay_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/quiescehq/quiesce/cluster_test/services"
	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mysql"
	"github.com/quiescehq/quiesce/relay"
)

// The cluster takes five seconds for an entry. The application's inserts are as fast as ever, for nothing is locked in MySQL while the log is asked.
// TestLock_LockingReaderHoldsUpTheApplication shows what a lock would do.
func TestRelay_InsertsAreFastWhileTheLogTakesFiveSeconds(t *testing.T) {
	t.Parallel()
	const hang, fast, writers = 5 * time.Second, time.Second, 3
	w := newWorld(t)
	asked, answered := make(chan struct{}), make(chan struct{})
	var first sync.Once
	w.log.stand(func(_ context.Context, _ fsm.Command, apply func() fsm.Result) ([]fsm.Result, error) {
		first.Do(func() {
			close(asked)
			timer := time.NewTimer(hang)
			defer timer.Stop()
			<-timer.C
			close(answered)
		})
		return []fsm.Result{apply()}, nil
	})
	w.insert(`["first"]`)
	w.start()
	<-asked
	var mu sync.Mutex
	var took []time.Duration
	var group sync.WaitGroup
	for writer := range writers {
		group.Go(func() {
			ticker := time.NewTicker(pollInterval)
			defer ticker.Stop()
			for i := 0; ; i++ {
				select {
				case <-answered:
					return
				case <-ticker.C:
				}
				began := time.Now()
				_, err := w.db.ExecContext(context.Background(), "INSERT INTO quiesce_outbox (mapping, pk) VALUES (?, ?)", mappingName, fmt.Sprintf(`["%d-%d"]`, writer, i))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				took = append(took, time.Since(began))
				mu.Unlock()
			}
		})
	}
	group.Wait()
	slices.Sort(took)
	p99 := took[len(took)*99/100]
	t.Logf("%d inserts, p99 %v, the slowest %v", len(took), p99, took[len(took)-1])
	if len(took) < 100 || p99 >= fast {
		t.Errorf("%d inserts in %v, p99 %v; want 100 and less than %v", len(took), hang, p99, fast)
	}
	w.until("all rows are relayed", func() bool { return w.rows() == 0 })
	if want := len(took) + 1; w.log.pending() != want {
		t.Errorf("%d events, want %d", w.log.pending(), want)
	}
}

// A planned switch sets the primary to read_only between the log's answer and the removal of the rows. They stay where they are, are not given to the log again, and go when
// the server is writable. Rows that such a server shows are not relayed: a replica that lags shows rows that are long gone.
func TestRelay_SwitchToReadOnlyRelaysEveryRowOnce(t *testing.T) {
	t.Parallel()
	own := services.Own(t)
	w := worldAt(t, own.MySQLDSN)
	w.makeTables()
	counting := &countsReads{Source: w.ordinaryAccount(own.MySQLDSN)}
	w.source = counting
	var entries, events atomic.Int64
	w.log.stand(func(_ context.Context, command fsm.Command, apply func() fsm.Result) ([]fsm.Result, error) {
		events.Add(int64(len(command.(fsm.EnqueueEvents).Events)))
		if entries.Add(1) == 1 {
			w.exec("SET GLOBAL read_only = 1")
		}
		return []fsm.Result{apply()}, nil
	})
	w.insert(`["1"]`)
	w.insert(`["2"]`)
	w.start()
	refused := func() bool {
		s := w.status()
		return s.State == relay.StateFailing && s.Detail == mysql.ErrNotPrimary.Error()
	}
	w.until("the relay says what is wrong", refused)
	w.insert(`["3"]`) // as replication would: this account may
	if n := w.rows(); n != 3 {
		t.Errorf("%d rows are left, want 3", n)
	}
	w.exec("SET GLOBAL read_only = 0")
	w.until("all is relayed", func() bool { return w.rows() == 0 && w.status().State == relay.StateRunning })
	if w.log.pending() != 3 || events.Load() != 3 {
		t.Errorf("%d events are pending, %d were given to the log; want 3", w.log.pending(), events.Load())
	}
	w.exec("SET GLOBAL read_only = 1")
	w.until("the relay says what is wrong", refused)
	w.insert(`["4"]`)
	looks := counting.reads.Load()
	w.until("it looked again", func() bool { return counting.reads.Load() > looks+1 })
	if events.Load() != 3 {
		t.Error("a row of a server that is read-only was relayed")
	}
}

// ordinaryAccount opens the outbox with an account that read_only does not spare.
func (w *world) ordinaryAccount(dsn string) relay.Source {
	w.Helper()
	const password = "relay-of-a-test"
	config, err := driver.ParseDSN(dsn)
	if err != nil {
		w.Fatal(err)
	}
	w.exec("CREATE USER relay IDENTIFIED BY '" + password + "'")
	w.exec("GRANT SELECT, INSERT, DELETE ON " + config.DBName + ".* TO relay")
	config.User, config.Passwd = "relay", password
	source, err := mysql.OpenOutbox(mysql.Config{Name: sourceName, DSN: config.FormatDSN(), QueryTimeout: 30 * time.Second})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { source.Close() })
	return source
}

// Three hours without MySQL: it is asked every few seconds and no less, said once, and relayed from within one such wait after its return.
func TestRelay_ThreeHoursWithoutMySQLAreOverWithinOneWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const length, longest = 3 * time.Hour, 10 * time.Second
		cfg := relay.Default()
		log := newLog(t)
		log.must(t, fsm.PutMapping{Name: mappingName, Source: sourceName, Target: "cache", Table: "items", Spec: []byte("{}"), Columns: []byte("[]")})
		source := &awaySource{}
		source.away.Store(true)
		said := &safeBuffer{}
		task, err := relay.New(cfg, relay.Parts{Log: log, Mapper: testMapper{}, Sources: map[string]relay.Source{sourceName: source}, Logger: slog.New(slog.NewTextHandler(said, nil))})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- task.Run(ctx) }()
		<-time.After(length)
		if reads, most := source.reads.Load(), int64(length/longest)+20; reads > most || reads < most/2 {
			t.Errorf("%d readings in %v, want up to %d", reads, length, most)
		}
		if s := task.Status()[0]; s.State != relay.StateFailing || s.Detail != mysql.ErrUnreachable.Error() {
			t.Errorf("status %+v", s)
		}
		source.away.Store(false)
		<-time.After(longest + time.Second)
		if _, ok := log.event(mappingName, `["1"]`); !ok || !source.deleted.Load() {
			t.Errorf("%v after the end: event %v, deleted %v", longest+time.Second, ok, source.deleted.Load())
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// A node without an account for outbox tables leads as well, and a task that returns by itself is taken for one that failed.
func TestRelay_WithoutSourcesStaysUntilItsTermEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		task, err := relay.New(relay.Default(), relay.Parts{Log: newLog(t), Mapper: testMapper{}, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- task.Run(ctx) }()
		synctest.Wait()
		select {
		case err := <-ended:
			t.Fatalf("it returned: %v", err)
		default:
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// awaySource is a table of one row on a server that does not answer.
type awaySource struct {
	away, deleted atomic.Bool
	reads         atomic.Int64
}

func (s *awaySource) answer() error {
	if s.away.Load() {
		return fmt.Errorf("%w: staged", mysql.ErrUnreachable)
	}
	return nil
}

func (s *awaySource) Read(context.Context, int) (mysql.OutboxBatch, error) {
	s.reads.Add(1)
	if err := s.answer(); err != nil || s.deleted.Load() {
		return mysql.OutboxBatch{}, err
	}
	return mysql.OutboxBatch{Rows: []mysql.OutboxRow{{ID: 1, Mapping: mappingName, PK: []byte(`["1"]`)}}}, nil
}

func (s *awaySource) Delete(context.Context, []uint64) error {
	s.deleted.Store(!s.away.Load())
	return s.answer()
}

func (s *awaySource) Refuse(context.Context, []mysql.Refusal) error { return s.answer() }

func (s *awaySource) Probe(context.Context, string) (mysql.FenceVerdict, error) {
	return "", s.answer()
}

func (s *awaySource) PurgeFences(context.Context, mysql.FencePurge) (int, error) {
	return 0, s.answer()
}
