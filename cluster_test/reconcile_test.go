package cluster_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/cluster_test/harness"
	"github.com/quiescehq/quiesce/cluster_test/oracle"
	"github.com/quiescehq/quiesce/cluster_test/services"
)

const (
	ownedMapping  = "owned"
	ownedRows     = 12_000
	ownedRate     = 4_000 // rows a second, so that a leader can be lost in the middle
	insertRows    = 1_000
	plantedStale  = 40 // in pairs that hold each other's value
	plantedGone   = 30
	plantedType   = 20
	plantedForm   = 15 // the same value in other bytes: no difference
	plantedExtras = 25
)

// owned is a table with a mapping that owns its prefix, judged by the oracle.
type owned struct {
	*table
	oracle oracle.Mapping
}

// newOwned fills the table and, by a pass, the empty cache.
func newOwned(t *testing.T, o harness.Options, place services.Services, rows int) *owned {
	t.Helper()
	w := &owned{table: newTable(t, place.MySQLDSN, place.RedisAddr, place.Prefix)}
	w.c = harness.Start(t, o)
	w.oracle = oracle.Mapping{Table: "items", ID: "id", Columns: []oracle.Column{{Name: "id", Number: true}, {Name: "name"}, {Name: "n", Number: true}}, Prefix: place.Prefix + "own:"}
	for from := 0; from < rows; from += insertRows {
		var values []string
		for id := from; id < min(rows, from+insertRows); id++ {
			values = append(values, fmt.Sprintf("(%d, 'row %d', %d)", id, id, id*7))
		}
		w.exec("INSERT INTO items VALUES " + strings.Join(values, ", "))
	}
	w.c.Must(harness.Request{Method: http.MethodPut, Path: "/v1/mappings/" + ownedMapping, Body: map[string]any{
		"source": "main", "target": "cache", "table": "items", "primary_key": []string{"id"}, "mode": "write_through", "encoding": "json", "owns_prefix": true, "on_wrong_type": "replace",
		"key": w.oracle.Prefix + "{id}", "columns": []map[string]any{{"name": "id"}, {"name": "name"}, {"name": "n"}},
	}}, nil)
	filled := w.ended(w.begin(api.PassOptions{Mode: api.PassRewrite, FillMissing: true, ConfirmDelayMs: 1}))
	if filled.State != api.PassDone || filled.Filled != uint64(rows) || filled.Counts.Repaired != uint64(rows) {
		t.Fatalf("the backfill: %+v", filled)
	}
	w.drained()
	w.agree()
	return w
}

func (w *owned) key(id int) string { return w.oracle.Prefix + strconv.Itoa(id) }

func (w *owned) begin(o api.PassOptions) uint64 {
	w.t.Helper()
	var started api.PassStarted
	w.c.Must(harness.Request{Method: http.MethodPost, Path: "/v1/passes", Body: api.StartPass{Mapping: ownedMapping, PassOptions: o}}, &started)
	return started.ID
}

func (w *owned) look(id uint64) (p api.Pass) {
	w.t.Helper()
	w.c.Must(harness.Request{Method: http.MethodGet, Path: fmt.Sprintf("/v1/passes/%d", id)}, &p)
	return p
}

// ended waits until the pass no longer runs.
func (w *owned) ended(id uint64) (p api.Pass) {
	w.t.Helper()
	harness.Eventually(w.t, settleMax, "the pass to end", func() error {
		if p = w.look(id); p.State == api.PassRunning {
			return fmt.Errorf("it runs: %+v", p)
		}
		return nil
	})
	return p
}

// midway waits until so many rows are compared and logged.
func (w *owned) midway(id, rows uint64) {
	w.t.Helper()
	harness.Eventually(w.t, settleMax, "the pass to get so far", func() error {
		p := w.look(id)
		if p.State != api.PassRunning {
			w.t.Fatalf("it was over too soon: %+v", p)
		}
		if p.Counts.Rows < rows {
			return fmt.Errorf("%d rows", p.Counts.Rows)
		}
		return nil
	})
}

func (w *owned) drained() {
	w.t.Helper()
	harness.Eventually(w.t, settleMax, "the backlog to drain", func() error {
		if stats := w.stats(); stats.Pending > 0 || stats.Dead > 0 {
			return fmt.Errorf("%+v", stats)
		}
		return nil
	})
}

// agree has the oracle compare; some keys may hold something else.
func (w *owned) agree(beside ...string) {
	w.t.Helper()
	report, err := oracle.Compare(w.t.Context(), w.db, w.cache, w.oracle)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, d := range report.Differences {
		if !slices.Contains(beside, d.Key) {
			w.t.Errorf("%+v", d)
		}
	}
}

// What was planted in known numbers is found, and nothing else, though the leader is killed in the middle; then it is repaired, over another such loss, and what only looks like a key of the mapping
// is what it was.
func TestReconcile_FindsAndRepairsWhatWasPlantedThoughTheLeaderIsKilled(t *testing.T) {
	place := services.Require(t)
	w := newOwned(t, harness.Options{MySQL: place.MySQLDSN, Redis: place.RedisAddr}, place, ownedRows)
	beside := w.plant()
	want := api.PassCounts{Rows: ownedRows, Stale: plantedStale, Missing: plantedGone, WrongType: plantedType, FormatOnly: plantedForm,
		Equal: ownedRows - plantedStale - plantedGone - plantedType - plantedForm, Differences: plantedStale + plantedGone + plantedType}

	id := w.begin(api.PassOptions{Extras: true, Rate: ownedRate, ConfirmDelayMs: confirmMs})
	w.midway(id, ownedRows/6)
	first := w.c.Leader()
	first.Kill()
	found := w.ended(id)
	if found.State != api.PassDone || found.Counts != want || found.Keys == nil || found.Keys.Extra != plantedExtras || found.Expected == found.Actual {
		t.Errorf("found %+v, keys %+v; planted %+v and %d extra keys", found, found.Keys, want, plantedExtras)
	}
	first.Start()
	w.c.AwaitReady(first)

	id = w.begin(api.PassOptions{Mode: api.PassRewrite, Extras: true, Rate: ownedRate, ConfirmDelayMs: confirmMs})
	w.midway(id, ownedRows/6)
	second := w.c.Leader()
	second.Kill()
	held := w.ended(id)
	if held.State != api.PassHeld || held.Hold != api.HoldExtras || held.Counts.Repaired != want.Differences || held.Keys.Extra != plantedExtras || held.Keys.Removed != 0 {
		t.Fatalf("it should ask for the removal of %d keys: %+v, keys %+v", plantedExtras, held, held.Keys)
	}
	w.c.Must(harness.Request{Method: http.MethodPost, Path: fmt.Sprintf("/v1/passes/%d/approve", id), Body: api.ApprovePass{}}, nil)
	if done := w.ended(id); done.State != api.PassDone || done.Keys.Removed != plantedExtras {
		t.Errorf("%+v, keys %+v", done, done.Keys)
	}
	second.Start()
	w.c.AwaitReady(second)
	w.drained()
	w.agree(beside...)
	after := w.ended(w.begin(api.PassOptions{Extras: true, ConfirmDelayMs: confirmMs}))
	if after.Counts.Differences != 0 || after.Counts.Equal != ownedRows-plantedForm || after.Keys.Extra != 0 || after.Expected != after.Actual {
		t.Errorf("the pass after the repair counts %+v, keys %+v", after.Counts, after.Keys)
	}
	w.c.AwaitSameState()
}

// plant spoils the cache at random rows, and returns the keys that stay as they are: those that only look like the mapping's, and those that are right in other bytes.
func (w *owned) plant() (beside []string) {
	var foreign []string
	w.t.Helper()
	order := rand.New(rand.NewPCG(3, 5)).Perm(ownedRows)
	next := func() int { id := order[0]; order = order[1:]; return id }
	for range plantedStale / 2 {
		a, b := w.key(next()), w.key(next())
		one, other := w.redisGet(a), w.redisGet(b)
		w.redisDo("MSET", a, other, b, one)
	}
	for range plantedGone {
		w.redisDo("DEL", w.key(next()))
	}
	for range plantedType {
		key := w.key(next())
		w.redisDo("DEL", key)
		w.redisDo("RPUSH", key, "x")
	}
	for range plantedForm {
		key := w.key(next())
		w.redisDo("SET", key, strings.ReplaceAll(w.redisGet(key), ":", ": "))
		beside = append(beside, key)
	}
	for i := range plantedExtras {
		w.redisDo("SET", w.key(1_000_000+i*13), "left behind")
	}
	for _, tail := range []string{"007", "7 ", "+7", "7x", "", "7:8", "9223372036854775808", "٧"} {
		foreign = append(foreign, w.oracle.Prefix+tail)
		w.redisDo("SET", w.oracle.Prefix+tail, "somebody else's")
	}
	w.t.Cleanup(func() {
		for _, key := range foreign {
			if have := w.cache.Get(context.Background(), key).Val(); have != "somebody else's" {
				w.t.Errorf("%q holds %q now", key, have)
			}
		}
	})
	return append(beside, foreign...)
}

// announce changes a row and says so in the outbox table, in one transaction.
func (w *owned) announce(id int) error {
	tx, err := w.db.BeginTx(context.Background(), nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	if _, err := tx.Exec("UPDATE items SET n = n + 1 WHERE id = ?", id); err != nil {
		return err
	}
	if _, err := tx.Exec("INSERT INTO quiesce_outbox (mapping, pk) VALUES (?, ?)", ownedMapping, fmt.Sprintf(`["%d"]`, id)); err != nil {
		return err
	}
	return tx.Commit()
}

// Under writes that are all announced nothing is ever called a difference: not while events are on their way, not while the relay is paused, not while a transaction has only been announced.
func TestReconcile_NoFalseAlarms(t *testing.T) {
	place := services.Require(t)
	w := newOwned(t, harness.Options{MySQL: place.MySQLDSN, Outbox: place.MySQLDSN, Redis: place.RedisAddr}, place, 2_000)
	q := newCLI(t, w.c)
	printed, _, _ := strings.Cut(q.must(t, 0, "sync", "tables"), "\n-- ")
	for statement := range strings.SplitSeq(printed, ";\n") {
		if strings.TrimSpace(statement) != "" {
			w.exec(statement)
		}
	}
	check := func(what string, wantHot bool) {
		t.Helper()
		p := w.ended(w.begin(api.PassOptions{Rate: 4_000, ConfirmDelayMs: confirmMs}))
		if p.State != api.PassDone || p.Counts.Rows != 2_000 || p.Counts.Differences != 0 || wantHot && p.Counts.Hot == 0 {
			t.Errorf("%s: %+v", what, p)
		}
	}
	writes, stop := context.WithCancel(t.Context())
	stopped := make(chan error)
	go func() { // ends with stop
		var err error
		for err == nil && writes.Err() == nil {
			err = w.announce(rand.IntN(2_000))
		}
		stopped <- err
	}()
	for range 3 {
		check("under writes", false)
	}
	w.c.Must(harness.Request{Method: http.MethodPost, Path: "/v1/outbox/pause", Body: map[string]any{"source": "main"}}, nil)
	check("while the relay is paused", true)
	stop()
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	check("at rest, while the relay is paused", true)
	w.c.Must(harness.Request{Method: http.MethodPost, Path: "/v1/outbox/resume", Body: map[string]any{"source": "main"}}, nil)
	w.awaitRelayed(0)
	w.drained()

	var prepared api.Prepared
	w.c.Must(harness.Request{Method: http.MethodPost, Path: "/v1/outbox/prepare", Body: map[string]any{"events": []map[string]any{{"mapping": ownedMapping, "pk": []int{77}}}, "ttl_ms": 600_000}}, &prepared)
	w.change(true, fmt.Sprintf("INSERT INTO %s (id) VALUES ('%s')", prepared.Fence.Table, prepared.Fence.ID), "UPDATE items SET name = 'announced' WHERE id = 77")
	check("while a transaction is announced", true)
	w.c.Must(harness.Request{Method: http.MethodPost, Path: "/v1/outbox/prepared/" + prepared.ID + "/submit"}, nil)
	w.drained()
	w.agree()

	// The control: a change that nobody announces is one difference, and no more.
	w.exec("UPDATE items SET name = 'behind the back' WHERE id = 78")
	if p := w.ended(w.begin(api.PassOptions{ConfirmDelayMs: confirmMs})); p.Counts.Differences != 1 || p.Counts.Stale != 1 {
		t.Errorf("a change that nobody announced counts %+v", p.Counts)
	}
}
