package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

// fake is a Replica over a real state, with a clock that tests move.
type fake struct {
	mu       sync.RWMutex
	state    *fsm.State
	term     uint64
	now      uint64
	watchers map[*fakeWatch]struct{}

	leader   atomic.Pointer[Leader]
	asked    atomic.Int64               // who leads
	failure  atomic.Pointer[error]      // of Propose, Read and Keepalive
	forced   atomic.Pointer[fsm.Result] // instead of what the state says
	entries  atomic.Int64               // Propose calls that became an entry
	progress atomic.Pointer[[]PassProgress]
	status   api.Cluster
	removed  error
}

type fakeWatch struct {
	f          *fake
	table, key string
	c          chan struct{}
}

func (w *fakeWatch) Wake() <-chan struct{} { return w.c }

func (w *fakeWatch) Close() {
	w.f.mu.Lock()
	defer w.f.mu.Unlock()
	delete(w.f.watchers, w)
}

func newFake() *fake {
	f := &fake{state: fsm.New(), term: 1, now: 1_000, watchers: map[*fakeWatch]struct{}{}}
	f.progress.Store(&[]PassProgress{})
	f.leader.Store(&Leader{ID: "n1", HTTPAddr: "127.0.0.1:1", Self: true})
	f.status = api.Cluster{ID: "c1", Node: "n1", Leader: "n1", LeaderURL: "http://127.0.0.1:1", Term: 1, AppliedIndex: 7, Digest: "d", FailureTolerance: 1,
		Nodes: []api.Node{{ID: "n1", Status: "alive", Suffrage: "voter", PeerAddr: "127.0.0.1:2", HTTPAddr: "127.0.0.1:1"}}}
	f.apply(fsm.Op{Command: fsm.TermStart{Node: "n1"}})
	return f
}

func (f *fake) apply(ops ...fsm.Op) []fsm.Result {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, err := fsm.DecodeEntry(fsm.EncodeEntry(fsm.Entry{Now: f.now, Ops: ops}))
	if err != nil {
		panic(err)
	}
	results, changes := f.state.Apply(f.term, e)
	for w := range f.watchers {
		for _, c := range changes {
			if c.Table == w.table && (w.key == "" || w.key == c.Key) {
				select {
				case w.c <- struct{}{}:
				default:
				}
			}
		}
	}
	return results
}

// advance moves cluster time and lets deadlines pass.
func (f *fake) advance(ms uint64) {
	f.mu.Lock()
	f.now += ms
	f.mu.Unlock()
	f.apply(fsm.Op{Command: fsm.Tick{}})
}

func (f *fake) Propose(_ context.Context, ops ...fsm.Op) ([]fsm.Result, error) {
	if err := f.failing(); err != nil {
		return nil, err
	}
	if r := f.forced.Load(); r != nil {
		out := make([]fsm.Result, len(ops))
		for i := range out {
			out[i] = *r
		}
		return out, nil
	}
	f.entries.Add(1)
	return f.apply(ops...), nil
}

func (f *fake) failing() error {
	if p := f.failure.Load(); p != nil {
		return *p
	}
	if !f.leader.Load().Self {
		return ErrNotApplied
	}
	return nil
}

func (f *fake) fail(err error) {
	if err == nil {
		f.failure.Store(nil)
		return
	}
	f.failure.Store(&err)
}

func (f *fake) Read(context.Context) error { return f.failing() }

func (f *fake) View(look func(*fsm.State)) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	look(f.state)
}

func (f *fake) Watch(table, key string) Watch {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := &fakeWatch{f: f, table: table, key: key, c: make(chan struct{}, 1)}
	f.watchers[w] = struct{}{}
	return w
}

func (f *fake) watching() int {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return len(f.watchers)
}

func (f *fake) Now() uint64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.now
}

func (f *fake) Keepalive(_ context.Context, ids []string) ([]Lease, error) {
	if err := f.failing(); err != nil {
		return nil, err
	}
	var out []Lease
	f.View(func(s *fsm.State) {
		for _, id := range ids {
			v, ok := s.Session(id)
			out = append(out, Lease{ID: id, Gone: !ok, TTLMs: v.TTLMs, RemainingMs: v.TTLMs})
		}
	})
	return out, nil
}

func (f *fake) LeaseRemaining(string) (uint64, bool) { return 9_000, true }
func (f *fake) Leader() Leader {
	f.asked.Add(1)
	return *f.leader.Load()
}

func (f *fake) Status(context.Context) api.Cluster {
	st := f.status
	f.View(func(s *fsm.State) { st.Index = s.Revision() })
	return st
}
func (f *fake) RemoveNode(context.Context, string) error { return f.removed }
func (f *fake) Transfer(context.Context) error           { return f.removed }
func (f *fake) Source(context.Context, string) (api.Place, bool) {
	return api.Place{Reachable: true, Role: "primary", Flavour: "mariadb"}, true
}
func (f *fake) Target(context.Context, string) (api.Place, bool) {
	return api.Place{Reachable: true, Role: "master", Flavour: "redis"}, true
}

// ClusterID is the one of every fake.
func (f *fake) ClusterID() string { return "c-test" }

func (f *fake) Delivery(string) Delivery {
	return Delivery{Delivered: 7, Blocked: api.BlockedTargetDown}
}
func (f *fake) Sent(row fsm.RowRef) bool { return row.PK == `["99"]` }

func (f *fake) Timeline(fsm.RowRef) api.KeyTimeline {
	return api.KeyTimeline{SinceMs: 1000, Entries: []api.KeyEntry{{What: "applied", Token: 3}}}
}

func (f *fake) Relays() []api.Relay { return []api.Relay{{Source: "shop", State: "running"}} }

func (f *fake) Serves(source string) bool { return source != "bare" }

func (f *fake) Nudge(source string) bool { return source == "shop" }

func (f *fake) Progress() []PassProgress { return *f.progress.Load() }

func (f *fake) Agreement() []Agreement {
	return []Agreement{{Mapping: "orders", Within: 10 * time.Second, Looked: 40, Agreed: 39}}
}

func (f *fake) Breakers() []api.Breaker { return []api.Breaker{{Name: "main", State: "closed"}} }

// fakeMappings takes any JSON object with a table, and primary keys that are one integer.
type fakeMappings struct{ down atomic.Bool }

func (m *fakeMappings) Check(_ context.Context, _ string, spec []byte) (Checked, error) {
	if m.down.Load() {
		return Checked{}, fmt.Errorf("%w: shop", ErrSourceUnreachable)
	}
	var s struct {
		Source, Target, Table string
	}
	d := json.NewDecoder(bytes.NewReader(spec))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil || s.Table == "" {
		return Checked{}, &InvalidError{Faults: []api.Fault{{Field: "table", Reason: "is needed"}}}
	}
	if s.Target == "gone" {
		return Checked{}, fmt.Errorf("%w: gone", ErrTargetUnreachable)
	}
	return Checked{Source: s.Source, Target: s.Target, Table: s.Table, Columns: []byte(`[]`)}, nil
}

// Inspect finds what Check refuses.
func (m *fakeMappings) Inspect(ctx context.Context, name string, spec []byte) (api.MappingCheck, error) {
	_, err := m.Check(ctx, name, spec)
	var bad *InvalidError
	if errors.As(err, &bad) {
		return api.MappingCheck{Findings: []api.Finding{{Level: "error", Field: bad.Faults[0].Field, Reason: bad.Faults[0].Reason}}}, nil
	}
	return api.MappingCheck{OK: true, Findings: []api.Finding{}}, err
}

// Keys takes old and new as keys like pk; null names nothing.
func (m *fakeMappings) Keys(ctx context.Context, record fsm.Mapping, e RowKeys) ([]string, error) {
	keys := [][]json.RawMessage{e.Old, e.New}
	if len(e.New) == 0 {
		keys[1] = e.PK
	}
	var out []string
	for _, key := range keys {
		if len(key) == 0 || string(key[0]) == "null" {
			continue
		}
		k, err := m.Key(ctx, record, key)
		if err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	return out, nil
}

// Look finds a row with its key as it should be, but for row 13.
func (m *fakeMappings) Look(_ context.Context, _ fsm.Mapping, key string) (api.KeyCheck, error) {
	if m.down.Load() {
		return api.KeyCheck{}, fmt.Errorf("%w: shop", ErrSourceUnreachable)
	}
	verdict := api.VerdictEqual
	if key == `["13"]` {
		verdict = api.VerdictStale
	}
	return api.KeyCheck{Row: &api.KeyRow{PK: parts(key)}, Keys: []api.CachedKey{{Key: "k", Verdict: verdict, Type: "string", TTLMs: -1}}}, nil
}

// Pass finds that the mapping blind cannot be compared, and that no other owns its prefix but owner.
func (m *fakeMappings) Pass(ctx context.Context, record fsm.Mapping, asked PassAsked) (from, to string, err error) {
	if record.Name == "blind" && asked.Mode == api.PassDryRun {
		return "", "", &InvalidError{Faults: []api.Fault{{Field: "mode", Reason: "the mapping only invalidates"}}}
	}
	if asked.Extras && record.Name != "owner" {
		return "", "", &InvalidError{Faults: []api.Fault{{Field: "extras", Reason: "needs owns_prefix"}}}
	}
	for _, end := range []struct {
		field string
		raw   []json.RawMessage
		text  *string
	}{{"range.from", asked.From, &from}, {"range.to", asked.To, &to}} {
		if len(end.raw) == 0 {
			continue
		}
		if *end.text, err = m.Key(ctx, record, end.raw); err != nil {
			return "", "", &InvalidError{Faults: []api.Fault{{Field: end.field, Reason: "must be one integer"}}}
		}
	}
	return from, to, nil
}

func (m *fakeMappings) Key(_ context.Context, _ fsm.Mapping, pk []json.RawMessage) (string, error) {
	var n int64
	if len(pk) != 1 || json.Unmarshal(bytes.Trim(pk[0], `"`), &n) != nil {
		return "", &InvalidError{Faults: []api.Fault{{Field: "pk", Reason: "must be one integer"}}}
	}
	return fmt.Sprintf(`["%d"]`, n), nil
}

// edge is a Server over a fake.
type edge struct {
	*Server
	t        testing.TB
	rep      *fake
	mappings *fakeMappings
}

func newEdge(t testing.TB) *edge { return newEdgeOver(t, newFake()) }

func newEdgeOver(t testing.TB, f *fake) *edge {
	t.Helper()
	m := &fakeMappings{}
	s, err := New(Config{Node: "n1", Version: "test", Replica: f, Mappings: m, Stores: f, Outbox: f, Relays: f, Passes: f, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s.SetReady(true, "")
	return &edge{s, t, f, m}
}

type reply struct {
	status int
	header http.Header
	body   []byte
}

func (r reply) problem(t testing.TB) api.Problem {
	t.Helper()
	var p api.Problem
	if ct := r.header.Get("Content-Type"); ct != api.ContentProblem {
		t.Fatalf("content type %q, status %d, body %s", ct, r.status, r.body)
	}
	if err := json.Unmarshal(r.body, &p); err != nil {
		t.Fatalf("%v in %s", err, r.body)
	}
	if p.Status != r.status || p.Type == "" || p.Title == "" {
		t.Fatalf("incomplete problem %s with status %d", r.body, r.status)
	}
	return p
}

func into[A any](t testing.TB, r reply) A {
	t.Helper()
	var a A
	if r.status/100 != 2 {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	if err := json.Unmarshal(r.body, &a); err != nil {
		t.Fatalf("%v in %s", err, r.body)
	}
	return a
}

// do sends one request without a network. Headers come in pairs.
func (e *edge) do(method, path, body string, header ...string) reply {
	return e.doCtx(context.Background(), method, path, body, header...)
}

func (e *edge) doCtx(ctx context.Context, method, path, body string, header ...string) reply {
	r := httptest.NewRequestWithContext(ctx, method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", api.ContentJSON)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	e.Handler().ServeHTTP(w, r)
	out, _ := io.ReadAll(w.Result().Body)
	return reply{w.Code, w.Result().Header, out}
}

func (e *edge) session() string {
	e.t.Helper()
	return into[api.Session](e.t, e.do(post, "/v1/sessions", `{"ttl_ms":10000}`)).ID
}

func (e *edge) acquireBody(session, name string, waitMs int) string {
	return fmt.Sprintf(`{"session":%q,"locks":[{"name":%q}],"wait_ms":%d}`, session, name, waitMs)
}

// eventually polls, for what another goroutine does.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-ticker.C:
		case <-deadline.C:
			t.Fatalf("never: %s", what)
		}
	}
}
