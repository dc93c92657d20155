package writer

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/quiescehq/quiesce/client"
	"github.com/quiescehq/quiesce/cluster_test/syncchaos/ledger"
)

// What the environment says, beside what the SDK reads there.
const (
	EnvDSN    = "CHAOS_DSN"
	EnvLedger = "CHAOS_LEDGER" // path of a file that does not exist yet
	EnvLife   = "CHAOS_LIFE"   // names this process among all of the run
	EnvSeed   = "CHAOS_SEED"
)

const (
	exitNoStart  = 3
	dialTimeout  = 2 * time.Second
	readTimeout  = 15 * time.Second // longer than the server is ever stopped
	lockSeconds  = "3"              // that a statement waits for a row
	operationMax = 20 * time.Second
	attemptFor   = time.Second // of a call
	retryFor     = time.Second // after its first attempt: an outage that is longer is left to what the SDK keeps
	paceMin      = 5 * time.Millisecond
	paceMax      = 40 * time.Millisecond
	poolMax      = 10
	afterError   = 100 * time.Millisecond
	lookEvery    = 50 * time.Millisecond
)

// lanesOf tells how many lanes a tier has.
var lanesOf = [Tiers + 1]int{1: 2, 2: 2, 3: 1, 4: 1}

// app is the process.
type app struct {
	*client.App
	db     *client.DB
	plain  *sql.DB // of tier 4, which knows nothing of the SDK
	sync   *client.Sync
	book   *ledger.Book
	log    *slog.Logger
	life   string
	serial atomic.Uint64

	mu   sync.Mutex
	kept []string // serials of what the SDK keeps
}

// Main is the application. It returns the exit code.
func Main() int {
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	a, err := join(log)
	if err != nil {
		log.Error("cannot start", "error", err)
		return exitNoStart
	}
	defer a.plain.Close()
	code := a.Run()
	a.flushed()
	return code
}

func join(log *slog.Logger) (*app, error) {
	a := &app{log: log, life: os.Getenv(EnvLife)}
	seed, err := strconv.ParseUint(os.Getenv(EnvSeed), 10, 64)
	if err != nil {
		return nil, err
	}
	config, err := mysql.ParseDSN(os.Getenv(EnvDSN))
	if err != nil {
		return nil, err
	}
	config.Timeout, config.ReadTimeout, config.WriteTimeout, config.InterpolateParams = dialTimeout, readTimeout, readTimeout, true
	config.Params = map[string]string{"innodb_lock_wait_timeout": lockSeconds}
	config.Logger = &mysql.NopLogger{} // the server goes away all the time
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, err
	}
	if a.book, err = ledger.Open(os.Getenv(EnvLedger)); err != nil {
		return nil, err
	}
	a.note(ledger.Line{Op: ledger.Begin, Life: a.life})
	if a.App, err = client.Join(Service, client.FromEnv(), client.With(client.Config{RequestTimeout: attemptFor, RetryFor: retryFor}), client.Logger(log), client.LameDuck(time.Millisecond)); err != nil {
		return nil, err
	}
	if a.db, err = a.OpenDB(connector, Source); err != nil {
		a.Close()
		return nil, err
	}
	a.db.SetMaxOpenConns(poolMax)
	a.plain = sql.OpenDB(connector)
	a.sync = a.Sync(nil)
	return a, a.begin(seed)
}

// begin starts the lanes.
func (a *app) begin(seed uint64) error {
	ways := [Tiers + 1]func(*lane, context.Context, plan, bool){1: (*lane).called, 2: (*lane).prepared, 3: (*lane).outbox, 4: (*lane).triggered}
	var failed error
	for tier := 1; tier <= Tiers; tier++ {
		for n := range lanesOf[tier] {
			l := &lane{app: a, tier: tier, way: ways[tier], rng: rand.New(rand.NewPCG(seed, uint64(tier*100+n)))}
			failed = errors.Join(failed, a.Go(fmt.Sprintf("tier %d lane %d", tier, n), l.run))
		}
	}
	return errors.Join(failed, a.Go("kept", a.watchKept))
}

// note writes a line. An application that cannot keep its ledger is of no use.
func (a *app) note(l ledger.Line) {
	if err := a.book.Write(l); err != nil {
		a.log.Error("the ledger cannot be written", "error", err)
		os.Exit(exitNoStart)
	}
}

// watchKept notes that what the SDK kept has been accepted.
func (a *app) watchKept(ctx context.Context) error {
	for pause(ctx, lookEvery) == nil {
		a.flushed()
	}
	return ctx.Err()
}

// flushed looks first at what was kept, and then whether anything waits: so all of the former was accepted.
func (a *app) flushed() {
	a.mu.Lock()
	kept := a.kept
	a.mu.Unlock()
	if len(kept) == 0 || a.sync.Waiting() > 0 || a.sync.Refused() > 0 {
		return
	}
	for _, serial := range kept {
		a.note(ledger.Line{Op: ledger.Accepted, Serial: serial})
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.kept = a.kept[len(kept):]
}

// keep notes that the SDK has taken events that the coordinator does not have yet.
func (a *app) keep(how, serial string) {
	a.note(ledger.Line{Op: how, Serial: serial})
	a.mu.Lock()
	defer a.mu.Unlock()
	a.kept = append(a.kept, serial)
}

// pause lets time pass.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
