package reconcile

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/mysql"
)

// How long after an event its key is looked at.
var agreementWindows = [...]time.Duration{10 * time.Second, time.Minute, 5 * time.Minute}

const (
	watchedMax    = 8_192 // events whose key is still to be looked at
	agreementLook = 5 * time.Second
	samplesMax    = 500
	movingMax     = 3 // looks at a row that is on the move, a second apart, before it is left out
)

// Agreement is how many keys were looked at so long after their event was accepted, and how many of them held what their rows said.
type Agreement struct {
	Mapping        string
	Within         time.Duration
	Looked, Agreed uint64
}

// agreement measures how soon caches agree with their tables: of the events that begin to be delivered a sample is kept, drawn with the same chance for each, and the key of each is
// looked at when its windows end. What agrees once is not looked at again. What is delivered for the first time after the end of a window did not agree within it, whatever held it up: a paused
// or broken delivery is counted when it goes on.
type agreement struct {
	perSecond int
	windows   [len(agreementWindows)]time.Duration

	mu      sync.Mutex
	share   float64 // chance of an event to be kept
	offered int     // in this second
	kept    int     // in this second
	watched []watched
	counts  map[string]*[len(agreementWindows)]agreed
}

type agreed struct{ looked, agreed uint64 }

// watched is one event whose key is to be looked at.
type watched struct {
	ref      fsm.RowRef
	token    uint64
	accepted uint64 // cluster time
	window   int    // that ends next
	moving   int    // looks that found the row on the move
}

func newAgreement(perSecond int) *agreement {
	return &agreement{perSecond: perSecond, windows: agreementWindows, share: 1, counts: map[string]*[len(agreementWindows)]agreed{}}
}

// Offer tells of events whose delivery begins. It is quick, and may be called from any goroutine.
func (t *Task) Offer(events []fsm.Event) {
	a, now := t.agreement, t.Log.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range events {
		if e.Attempts > 0 || e.Pass != 0 || e.Drop {
			continue // it was offered before, or repairs what was looked at already
		}
		a.offered++
		if a.kept >= a.perSecond || len(a.watched) >= watchedMax || a.share < 1 && rand.Float64() >= a.share {
			continue
		}
		a.kept++
		x := watched{ref: fsm.RowRef{Mapping: e.Mapping, PK: e.PK}, token: e.Token, accepted: e.EnqueuedAt}
		for x.window < len(a.windows) && x.due(a.windows) <= now {
			a.count(x, false)
			x.window++
		}
		if x.window < len(a.windows) {
			a.watched = append(a.watched, x)
		}
	}
}

func (x watched) due(windows [len(agreementWindows)]time.Duration) uint64 {
	return x.accepted + uint64(windows[x.window].Milliseconds())
}

func (a *agreement) count(x watched, agrees bool) {
	counts := a.counts[x.ref.Mapping]
	if counts == nil {
		counts = new([len(agreementWindows)]agreed)
		a.counts[x.ref.Mapping] = counts
	}
	last := x.window
	if agrees {
		last = len(counts) - 1 // what agrees now is taken to agree in a longer time, too
	}
	for i := x.window; i <= last; i++ {
		counts[i].looked++
		if agrees {
			counts[i].agreed++
		}
	}
}

// Agreement gives the counts since this task began to run, by mapping and window.
func (t *Task) Agreement() []Agreement {
	a := t.agreement
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []Agreement
	for name, counts := range a.counts {
		for i, c := range counts {
			out = append(out, Agreement{Mapping: name, Within: a.windows[i], Looked: c.looked, Agreed: c.agreed})
		}
	}
	return out
}

// begin takes the next second's share from this one's number of events, and gives those whose window has ended.
func (a *agreement) begin(now uint64) (due []watched) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.share = min(1, float64(a.perSecond)/float64(max(a.offered, 1)))
	a.offered, a.kept = 0, 0
	a.watched = slices.DeleteFunc(a.watched, func(x watched) bool {
		if x.due(a.windows) > now {
			return false
		}
		due = append(due, x)
		return true
	})
	return due
}

// watchAgreement looks at what is due, once a second.
func (t *Task) watchAgreement(ctx context.Context, every time.Duration) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		byMapping := map[string][]watched{}
		for _, x := range t.agreement.begin(t.Log.Now()) {
			byMapping[x.ref.Mapping] = append(byMapping[x.ref.Mapping], x)
		}
		for name, due := range byMapping {
			for part := range slices.Chunk(due, mysql.BatchRowsMax) {
				t.judgeAgreement(ctx, name, part)
			}
		}
	}
}

// judgeAgreement looks at the keys of one mapping. Where the stores cannot be read nobody knows what agrees, and nothing is counted.
func (t *Task) judgeAgreement(ctx context.Context, name string, due []watched) {
	ctx, cancel := context.WithTimeout(ctx, agreementLook)
	defer cancel()
	p, ok := t.looker(ctx, name)
	if !ok {
		return
	}
	var suspects []*suspect
	var rows []watched
	for _, x := range due {
		if key, err := mapping.DecodeKey(x.ref.PK); err == nil {
			suspects, rows = append(suspects, &suspect{key: key, ref: x.ref}), append(rows, x)
		}
	}
	seen, err := p.reread(ctx, suspects)
	if err != nil {
		return
	}
	p.interrogate(suspects, seen)
	newer := make([]bool, len(rows))
	t.Log.View(func(s *fsm.State) {
		for i, x := range rows {
			e, pending := s.Event(x.ref)
			newer[i] = pending && e.Token > x.token || s.RowPrepared(x.ref)
		}
	})
	a := t.agreement
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, x := range rows {
		a.settle(x, p.agrees(suspects[i], seen[i]), newer[i] || seen[i].touched || !seen[i].covered || seen[i].relay != relayDone)
	}
}

// settle counts a look. A row that is on the move may differ because of a later change, so it is looked at again.
func (a *agreement) settle(x watched, agrees, moving bool) {
	switch {
	case agrees:
		a.count(x, true)
	case moving && x.moving < movingMax:
		x.moving++
		a.watched = append(a.watched, x)
	case moving: // a change that came later: nothing is known of this one
	default:
		a.count(x, false)
		if x.window++; x.window < len(a.windows) {
			x.moving = 0
			a.watched = append(a.watched, x)
		}
	}
}

// looker is a pass that reads single rows and logs nothing.
func (t *Task) looker(ctx context.Context, name string) (*pass, bool) {
	var record fsm.Mapping
	t.Log.View(func(s *fsm.State) { record, _ = s.Mapping(name) })
	m, err := compile(record)
	if err != nil || !m.NeedsRow() || ctx.Err() != nil { // who only invalidates has readers fill the keys: there is nothing to compare
		return nil, false
	}
	source, target := t.Sources[record.Source], t.Targets[record.Target]
	if source == nil || target == nil {
		return nil, false
	}
	return &pass{config: t.config, log: t.Log, acks: t.Acknowledged, relays: t.Relays, logger: t.Logger, progress: &progress{}, mapping: m, examiner: newExaminer(m, false),
		source: source, target: target, logged: fsm.Pass{Mapping: name, Revision: record.Revision}}, true
}

// agrees tells whether the keys of a row, or of one that is gone, hold what they should.
func (p *pass) agrees(s *suspect, v sandwich) bool {
	if v.row != nil {
		return v.steady && v.look.matches()
	}
	for _, actual := range v.actual {
		if verdict, err := p.mapping.Compare(s.key, nil, actual); err != nil || verdict != mapping.Equal {
			return false
		}
	}
	return true
}
