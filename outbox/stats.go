package outbox

import (
	"cmp"
	"math"
	"slices"

	"github.com/quiescehq/quiesce/fsm"
)

// oldestScanMax bounds the search for a mapping's oldest event. Events stand in the order of their next attempt, so the search is exact until that many wait.
const oldestScanMax = 2_000

// Stats is a snapshot. Totals count since the process started; Breakers is empty on a node that does not lead.
type Stats struct {
	Mappings []MappingStats // by name
	Breakers []BreakerStats // by kind, name and table
}

// MappingStats are the figures of one mapping.
type MappingStats struct {
	Mapping    string
	Pending    int
	OldestMs   uint64 // since the oldest pending event was enqueued, cluster time
	InFlight   int    // events in a batch
	Delivered  uint64 // settled because they were applied
	Superseded uint64 // settled because Redis had a newer token already
	Failed     uint64 // failures logged, spent attempts or not
	Dead       int
	Blocked    string // why nothing is delivered, one of the Blocked constants, or empty
}

// tally is what the task counts itself.
type tally struct {
	inFlight                      int
	delivered, superseded, failed uint64
	blocked                       string // as of the last plan
}

func (t *Task) tallyLocked(mapping string) *tally {
	counted := t.tallies[mapping]
	if counted == nil {
		counted = &tally{}
		t.tallies[mapping] = counted
	}
	return counted
}

// noteBlocked keeps what a plan found, for Share.
func (t *Task) noteBlocked(found map[string]string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, why := range found {
		t.tallyLocked(name).blocked = why
	}
}

func (t *Task) claimed(mapping string, rows int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tallyLocked(mapping).inFlight += rows
}

// concluded counts a batch. What was not logged for sure is counted when its repetition is.
func (t *Task) concluded(done *report) {
	t.mu.Lock()
	defer t.mu.Unlock()
	counted := t.tallyLocked(done.rule.name)
	counted.inFlight -= len(done.events)
	if !done.proposed || done.proposeErr != nil {
		return
	}
	for i := range done.items {
		switch done.items[i].state {
		case itemApplied:
			counted.delivered++
		case itemSuperseded:
			counted.superseded++
		case itemFailed, itemDead:
			counted.failed++
		}
	}
}

// Stats looks at the state and at the run. It must not be called inside Log.View.
func (t *Task) Stats() Stats {
	stats := Stats{Mappings: t.pendingStats(), Breakers: t.Breakers()}
	t.mu.Lock()
	for i := range stats.Mappings {
		m := &stats.Mappings[i]
		if counted := t.tallies[m.Mapping]; counted != nil {
			m.InFlight, m.Delivered, m.Superseded, m.Failed = counted.inFlight, counted.delivered, counted.superseded, counted.failed
		}
	}
	t.mu.Unlock()
	return stats
}

// Breakers gives those of the run, without a look at the state: Stats looks at thousands of events.
func (t *Task) Breakers() []BreakerStats {
	t.mu.Lock()
	r := t.current
	t.mu.Unlock()
	if r == nil {
		return nil
	}
	return r.breakerStats()
}

// pendingStats looks once for each mapping, so that no look is long.
func (t *Task) pendingStats() []MappingStats {
	var records []fsm.Mapping
	t.log.View(func(s *fsm.State) {
		s.Mappings("", func(m fsm.Mapping) bool { records = append(records, m); return true })
	})
	out := make([]MappingStats, len(records))
	for i, m := range records {
		out[i] = MappingStats{Mapping: m.Name, Blocked: t.blocked(m)}
		now := t.log.Now()
		t.log.View(func(s *fsm.State) {
			out[i].Pending, out[i].Dead, out[i].OldestMs = s.Pending(m.Name), s.Dead(m.Name), oldestMs(s, m.Name, now)
		})
	}
	return out
}

func oldestMs(s *fsm.State, mapping string, now uint64) uint64 {
	oldest, seen := now, 0
	s.DueEvents(mapping, math.MaxUint64, func(e fsm.Event) bool {
		oldest = min(oldest, e.EnqueuedAt)
		seen++
		return seen < oldestScanMax
	})
	return now - oldest
}

// blocked says what adopt would say, without a run.
func (t *Task) blocked(record fsm.Mapping) string {
	compiled, err := compile(record)
	switch {
	case err != nil:
		return BlockedMappingBroken
	case t.sites.Targets[record.Target] == nil:
		return BlockedTargetMissing
	case compiled.NeedsRow() && t.sites.Sources[record.Source] == nil:
		return BlockedSourceMissing
	}
	return ""
}

// Share is one mapping's figures without a look at the state, so it may be called inside Log.View. Pending, Dead and OldestMs are not set.
// Blocked is as of the last time that deliveries were planned.
func (t *Task) Share(mapping string) MappingStats {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := MappingStats{Mapping: mapping}
	if counted := t.tallies[mapping]; counted != nil {
		out.InFlight, out.Delivered, out.Superseded, out.Failed, out.Blocked = counted.inFlight, counted.delivered, counted.superseded, counted.failed, counted.blocked
	}
	return out
}

// Claimed tells whether a delivery of the row is under way. It may be called inside Log.View.
func (t *Task) Claimed(row fsm.RowRef) bool {
	t.mu.Lock()
	r := t.current
	t.mu.Unlock()
	if r == nil {
		return false
	}
	r.ledger.mu.Lock()
	defer r.ledger.mu.Unlock()
	return r.ledger.claimed(row)
}

func (r *run) breakerStats() []BreakerStats {
	r.mu.Lock()
	places := make([]*place, 0, len(r.places))
	for _, p := range r.places {
		places = append(places, p)
	}
	r.mu.Unlock()
	out := make([]BreakerStats, len(places))
	for i, p := range places {
		out[i] = p.stats()
	}
	slices.SortFunc(out, func(a, b BreakerStats) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Table, b.Table))
	})
	return out
}
