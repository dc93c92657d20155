package history

import (
	"sync"
	"time"
)

// Recorder notes a history.
type Recorder struct {
	began time.Time

	mu     sync.Mutex
	ops    []*Op
	leases map[string]lease
}

// lease is what a client knows of its session: when the last keepalive that was acknowledged had been sent.
type lease struct {
	ttl  time.Duration
	sent int64
}

// NewRecorder begins a history. Histories that count from the same beginning can be compared.
func NewRecorder(began time.Time) *Recorder {
	return &Recorder{began: began, leases: map[string]lease{}}
}

// Now is the time of the history.
func (r *Recorder) Now() int64 { return int64(time.Since(r.began)) }

// Begin notes that an operation is being sent. Until End its outcome is unknown.
func (r *Recorder) Begin(o Op) *Op {
	r.mu.Lock()
	defer r.mu.Unlock()
	o.ID, o.Call, o.Return = len(r.ops)+1, r.Now(), Never
	r.ops = append(r.ops, &o)
	return &o
}

// End notes what the caller learned. answer fills it in.
func (r *Recorder) End(o *Op, answer func(o *Op)) {
	now := r.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	answer(o)
	o.Return = now
	if o.Outcome == Unknown {
		o.Return = Never
	}
}

// Also notes what the answer to an operation tells beside its own outcome: an acquire that was parked tells how its ticket stands.
func (r *Recorder) Also(of *Op, o Op) *Op {
	now := r.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	o.ID, o.Client, o.Session, o.Call, o.Return = len(r.ops)+1, of.Client, of.Session, of.Call, now
	r.ops = append(r.ops, &o)
	return &o
}

// Add notes an operation that has just been answered.
func (r *Recorder) Add(o Op) {
	now := r.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	o.ID, o.Return = len(r.ops)+1, now
	r.ops = append(r.ops, &o)
}

// Renewed notes an acknowledged keepalive, or the opening of a session, by when it had been sent.
func (r *Recorder) Renewed(session string, ttl time.Duration, sent int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leases[session] = lease{ttl: ttl, sent: max(sent, r.leases[session].sent)}
}

// History is what was noted so far.
func (r *Recorder) History() History {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := History{EarliestEnd: map[string]int64{}}
	for _, o := range r.ops {
		h.Ops = append(h.Ops, *o)
	}
	for session, l := range r.leases {
		h.EarliestEnd[session] = l.sent + int64(l.ttl)
	}
	return h
}

// History is a set of operations, and for each session when it may expire at the earliest. A session without that never expires.
type History struct {
	Ops         []Op
	EarliestEnd map[string]int64
}
