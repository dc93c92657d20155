package reconcile

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/quiescehq/quiesce/fsm"
)

// Progress is what a pass does at this moment on this leader. The replicated record has its counts up to the last checkpoint.
type Progress struct {
	Pass          uint64
	Mapping       string
	Phase         fsm.PassPhase
	Rows          uint64        // compared by this leader, confirmed or not
	RowsPerSecond float64       // over the last seconds, waiting included
	Estimate      uint64        // rows that there were thought to be to look at; 0: unknown
	ETA           time.Duration // until the rows are looked at, at the rate of the last seconds; 0: unknown
	Open          int           // differences that await confirmation
	ChunkRows     int           // size of the next read
	Waiting       string        // code of what it waits for, such as target_unreachable; empty while it works
	Throttled     string        // why it stands still for others, with the figures, such as "threads_running 31 > 25"; empty while it does not
}

// waitConfirming is shown while nothing is left to do but to let differences grow old enough.
const waitConfirming = "confirming"

// waitRelay is shown while only the relay of an outbox table can still explain what differs.
const waitRelay = "relay"

// waitTurn is shown of a pass while as many as may be are at work.
const waitTurn = "turn"

// lane is one of the two goroutines of a pass: each waits for its own things.
type lane int

const (
	laneJudge lane = iota
	laneScan
	lanes
)

// The rate is that of at most rateMarks times rateEvery.
const (
	rateMarks = 20
	rateEvery = 500 * time.Millisecond
)

// progress is written by the goroutines of a pass and read by anybody.
type progress struct {
	mu      sync.Mutex
	shown   Progress
	before  uint64 // rows that were compared before this leader began
	marks   []rateMark
	waiting [lanes]string
}

// rateMark is how far a pass was at a moment.
type rateMark struct {
	at   time.Time
	rows uint64
}

// begin notes from where the rows are counted.
func (p *progress) begin(before, estimate uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.before, p.shown.Rows, p.shown.Estimate, p.marks = before, 0, estimate, []rateMark{{at: time.Now()}}
}

// compared counts rows.
func (p *progress) compared(rows int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shown.Rows += uint64(rows)
	p.mark(time.Now())
}

// mark keeps one figure for each half second, and none that is older than ten.
func (p *progress) mark(now time.Time) {
	if n := len(p.marks); n == 0 || now.Sub(p.marks[n-1].at) >= rateEvery {
		p.marks = append(p.marks, rateMark{at: now, rows: p.shown.Rows})
	}
	for len(p.marks) > 1 && now.Sub(p.marks[1].at) >= rateMarks*rateEvery {
		p.marks = p.marks[1:]
	}
}

// throttle notes why the pass stands still; empty when it does not.
func (p *progress) throttle(reason string) {
	p.update(func(shown *Progress) { shown.Throttled = reason })
}

func (p *progress) update(f func(shown *Progress)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.shown)
}

// wait notes what a lane waits for and tells whether that is news.
func (p *progress) wait(l lane, code string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	fresh := p.waiting[l] != code
	p.waiting[l] = code
	return fresh
}

func (p *progress) snapshot(now time.Time) Progress {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mark(now)
	out := p.shown
	if elapsed := now.Sub(p.marks[0].at).Seconds(); elapsed > 0 {
		out.RowsPerSecond = float64(out.Rows-p.marks[0].rows) / elapsed
	}
	if done := p.before + out.Rows; out.Estimate > done && out.RowsPerSecond >= 1 {
		out.ETA = time.Duration(float64(out.Estimate-done) / out.RowsPerSecond * float64(time.Second))
	}
	for _, code := range p.waiting {
		if out.Waiting == "" || out.Waiting == waitConfirming && code != "" {
			out.Waiting = code
		}
	}
	return out
}

// Progress shows the passes of this leader, oldest first: those at work, and those that wait for their turn or their time of the day. It is empty on a node that does not lead.
func (t *Task) Progress() []Progress {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]Progress, 0, len(t.under)+len(t.standing))
	now := time.Now()
	for _, p := range t.under {
		out = append(out, p.snapshot(now))
	}
	for id, p := range t.standing {
		if t.under[id] == nil {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b Progress) int { return cmp.Compare(a.Pass, b.Pass) })
	return out
}

// track shows a pass until the returned function is called.
func (t *Task) track(record fsm.Pass) (*progress, func()) {
	p := &progress{shown: Progress{Pass: record.ID, Mapping: record.Mapping, Phase: record.Phase, Estimate: record.Estimate}}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.under[record.ID] = p
	return p, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.under, record.ID)
	}
}
