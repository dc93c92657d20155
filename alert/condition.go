package alert

import (
	"time"

	"github.com/quiescehq/quiesce/fsm"
)

// oldestLookedAt bounds the search for a mapping's oldest event, as the API's own does.
const oldestLookedAt = 100

// Notice is what a hook receives.
type Notice struct {
	Kind    Kind           `json:"kind"`
	State   State          `json:"state"`
	Mapping string         `json:"mapping"`
	Cluster string         `json:"cluster"`
	Node    string         `json:"node"` // that tells
	At      time.Time      `json:"at"`   // wall clock of that node
	Count   uint64         `json:"count,omitempty"`
	LagMs   uint64         `json:"lag_ms,omitempty"`
	Classes map[string]int `json:"classes,omitempty"` // of failure or of difference
	Cause   string         `json:"cause,omitempty"`
	Pass    uint64         `json:"pass,omitempty"`
	Pending int            `json:"pending,omitempty"`
}

// State is where a condition stands.
type State string

const (
	Firing   State = "firing"
	Resolved State = "resolved"
)

// subject names a condition.
type subject struct {
	kind    Kind
	mapping string
}

// conditions finds what holds of each mapping. lag is the least that any hook wants to hear of.
func conditions(s *fsm.State, lag time.Duration) map[subject]Notice {
	found := map[subject]Notice{}
	s.Mappings("", func(m fsm.Mapping) bool {
		add := func(n Notice) {
			n.Mapping, n.State = m.Name, Firing
			found[subject{n.Kind, m.Name}] = n
		}
		if dead := s.Dead(m.Name); dead > 0 {
			n := Notice{Kind: DeadLetter, Count: uint64(dead), Classes: map[string]int{}}
			for _, c := range s.DeadBy(m.Name) {
				n.Classes[c.Class] = c.Count
			}
			add(n)
		}
		if ms := oldestMs(s, m.Name); ms >= uint64(lag.Milliseconds()) {
			add(Notice{Kind: Lag, LagMs: ms, Pending: s.Pending(m.Name)})
		}
		if d, ok := s.DoubtOf(m.Name); ok {
			add(Notice{Kind: Doubt, Cause: d.Cause, Pass: d.Pass, LagMs: since(s, d.Since)})
		}
		return true
	})
	for mapping, p := range lastPasses(s) {
		if n := p.Divergent(); n > 0 {
			found[subject{Divergence, mapping}] = Notice{Kind: Divergence, State: Firing, Mapping: mapping, Count: n, Pass: p.ID, Classes: classes(p)}
		}
	}
	s.Passes(0, func(p fsm.Pass) bool {
		if p.State == fsm.PassHeld { // a mapping has one unfinished pass
			found[subject{Held, p.Mapping}] = Notice{Kind: Held, State: Firing, Mapping: p.Mapping, Count: p.Divergent(), Pass: p.ID, Classes: classes(p), Cause: string(p.Hold)}
		}
		return true
	})
	return found
}

// lastPasses gives the last pass of each mapping that came to its end. It is bounded by fsm.PassesMax.
func lastPasses(s *fsm.State) map[string]fsm.Pass {
	last := map[string]fsm.Pass{}
	s.Passes(0, func(p fsm.Pass) bool {
		if p.State == fsm.PassDone {
			last[p.Mapping] = p
		}
		return true
	})
	return last
}

func classes(p fsm.Pass) map[string]int {
	out, c := map[string]int{}, p.Counts
	for name, n := range map[string]uint64{"stale": c.Stale, "missing": c.Missing - min(p.Filled, c.Missing), "wrong_type": c.WrongType, "no_ttl": c.NoTTL, "extra": p.Keys.Extra} {
		if n > 0 {
			out[name] = int(n)
		}
	}
	return out
}

func oldestMs(s *fsm.State, mapping string) (age uint64) {
	looked := 0
	s.DueEvents(mapping, ^uint64(0), func(e fsm.Event) bool {
		age = max(age, since(s, e.EnqueuedAt))
		looked++
		return looked < oldestLookedAt
	})
	return age
}

func since(s *fsm.State, then uint64) uint64 { return s.Now() - min(then, s.Now()) }

// grew tells whether a condition is worse than when it was told.
func grew(told, now Notice) bool {
	return now.Count > told.Count || now.Pass != told.Pass || now.Kind == Lag && now.LagMs > 2*told.LagMs
}
