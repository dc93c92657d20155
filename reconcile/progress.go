package reconcile

import (
	"slices"
	"sync"
	"time"
)

// Progress is what a pass does at this moment on this leader. The replicated record has its counts up to the last checkpoint.
type Progress struct {
	Pass          uint64
	Mapping       string
	Rows          uint64  // compared in this term, confirmed or not
	RowsPerSecond float64 // over this term, waiting included
	Open          int     // differences that await confirmation
	ChunkRows     int     // size of the next read
	Waiting       string  // code of what it waits for, such as target_unreachable; empty while it works
}

// waitConfirming is shown while nothing is left to do but to let differences grow old enough.
const waitConfirming = "confirming"

// lane is one of the two goroutines of a pass: each waits for its own things.
type lane int

const (
	laneJudge lane = iota
	laneScan
	lanes
)

// progress is written by the goroutines of a pass and read by anybody.
type progress struct {
	mu      sync.Mutex
	began   time.Time
	shown   Progress
	waiting [lanes]string
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

func (p *progress) snapshot() Progress {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.shown
	if elapsed := time.Since(p.began).Seconds(); elapsed > 0 {
		out.RowsPerSecond = float64(out.Rows) / elapsed
	}
	for _, code := range p.waiting {
		if out.Waiting == "" || out.Waiting == waitConfirming && code != "" {
			out.Waiting = code
		}
	}
	return out
}

// Progress shows the passes under way on this node, oldest first. It is empty on a node that does not lead.
func (t *Task) Progress() []Progress {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]Progress, 0, len(t.under))
	for _, p := range t.under {
		out = append(out, p.snapshot())
	}
	slices.SortFunc(out, func(a, b Progress) int { return int(int64(a.Pass) - int64(b.Pass)) })
	return out
}

// track shows a pass until the returned function is called.
func (t *Task) track(id uint64, mapping string) (*progress, func()) {
	p := &progress{began: time.Now(), shown: Progress{Pass: id, Mapping: mapping}}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.under[id] = p
	return p, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.under, id)
	}
}
