package fsm

import (
	"fmt"
	"slices"
	"strings"
)

// CleanupState is where a cleanup stands.
type CleanupState string

const (
	CleanupWaiting   CleanupState = "waiting"
	CleanupRunning   CleanupState = "running"
	CleanupDone      CleanupState = "done"
	CleanupStopped   CleanupState = "stopped" // somebody who declares an overlapping pattern registered
	CleanupCancelled CleanupState = "cancelled"
	CleanupFailed    CleanupState = "failed"
)

func (st CleanupState) ended() bool { return st != CleanupWaiting && st != CleanupRunning }

// Cleanup is a removal of cache keys. The state decides when it may go on; package drain removes.
type Cleanup struct {
	ID        uint64       `cbor:"1,keyasint"`
	Target    string       `cbor:"2,keyasint"`
	Patterns  []string     `cbor:"3,keyasint"`
	Service   string       `cbor:"4,keyasint,omitempty"` // whose last instance left; empty: an operator asked
	DryRun    bool         `cbor:"5,keyasint,omitempty"`
	Reason    string       `cbor:"6,keyasint,omitempty"`
	State     CleanupState `cbor:"7,keyasint"`
	Why       string       `cbor:"8,keyasint,omitempty"`
	DueAt     uint64       `cbor:"9,keyasint"`            // cluster time
	Pattern   int          `cbor:"10,keyasint,omitempty"` // the one that is under way, from 0
	Cursor    uint64       `cbor:"11,keyasint,omitempty"` // of its SCAN
	Scanned   uint64       `cbor:"12,keyasint,omitempty"`
	Matched   uint64       `cbor:"13,keyasint,omitempty"`
	Removed   uint64       `cbor:"14,keyasint,omitempty"`
	Samples   []string     `cbor:"15,keyasint,omitempty"`
	CreatedAt uint64       `cbor:"16,keyasint"`
	Index     uint64       `cbor:"17,keyasint"`
}

// CleanupResult answers the cleanup commands.
type CleanupResult struct {
	ID       uint64       `cbor:"1,keyasint"`
	State    CleanupState `cbor:"2,keyasint"`
	Services []string     `cbor:"3,keyasint,omitempty" json:",omitempty"` // that use an overlapping pattern
}

// literal is what a pattern begins with before its first wildcard.
func literal(pattern string) string {
	if i := strings.IndexAny(pattern, `*?[\`); i >= 0 {
		return pattern[:i]
	}
	return pattern
}

func validPatterns(patterns []string) bool {
	return len(patterns) > 0 && len(patterns) <= CleanupPatternsMax && !slices.ContainsFunc(patterns, func(p string) bool {
		return len(p) > PatternBytesMax || len(literal(p)) < PatternLiteralMin
	})
}

// overlap errs on the safe side: two patterns may have a key in common only if one's literal beginning begins the other's.
func overlap(a, b []string) bool {
	return slices.ContainsFunc(a, func(x string) bool {
		return slices.ContainsFunc(b, func(y string) bool {
			return strings.HasPrefix(literal(x), literal(y)) || strings.HasPrefix(literal(y), literal(x))
		})
	})
}

// usersOf lists the services that declare an overlapping pattern on the target and have a live instance or a kept place.
func (s *State) usersOf(target string, patterns []string) (users []string) {
	s.services.ascend("", func(name string, v Service) bool {
		if v.Cleanup != nil && v.Cleanup.Target == target && overlap(v.Cleanup.Patterns, patterns) &&
			(s.members.count(name) > 0 || s.held.count(name) > 0) {
			users = append(users, name)
		}
		return true
	})
	return users
}

// NewCleanup asks for a removal, at an operator's wish.
type NewCleanup struct {
	Target   string   `cbor:"1,keyasint"`
	Patterns []string `cbor:"2,keyasint"`
	DelayMs  uint64   `cbor:"3,keyasint,omitempty"`
	DryRun   bool     `cbor:"4,keyasint,omitempty"`
	Reason   string   `cbor:"5,keyasint,omitempty"`
	WallMs   uint64   `cbor:"6,keyasint,omitempty"` // when it was asked, to be shown only
}

func (NewCleanup) kind() Kind { return kindNewCleanup }

func (c NewCleanup) apply(s *State) Result {
	if c.Target == "" || len(c.Target) > NameBytesMax || !validPatterns(c.Patterns) || c.DelayMs > CleanupDelayMaxMs || len(c.Reason) > ReasonBytesMax {
		return refuse(CodeInvalid, "target, patterns, delay or reason out of bounds; a pattern begins with at least 2 literal bytes")
	}
	if users := s.usersOf(c.Target, c.Patterns); len(users) > 0 && !c.DryRun {
		r := refuse(CodePatternInUse, "live services use such keys: "+strings.Join(users, ", "))
		r.Cleanup = &CleanupResult{Services: users}
		return r
	}
	v, ok := s.addCleanup(Cleanup{Target: c.Target, Patterns: c.Patterns, DryRun: c.DryRun, Reason: c.Reason}, c.DelayMs)
	if !ok {
		return refuse(CodeCleanupsFull, "as many cleanups are under way as may be")
	}
	s.auditCleanup("cleanups.new", v, c.WallMs, c.Reason)
	return Result{Cleanup: &CleanupResult{ID: v.ID, State: v.State}}
}

// auditCleanup records what an operator wished of the keys of a target.
func (s *State) auditCleanup(action string, v Cleanup, wallMs uint64, reason string) {
	s.audit(Act{WallMs: wallMs, Action: action, Subject: fmt.Sprint("cleanup ", v.ID), Reason: reason,
		Details: []string{v.Target + ": " + strings.Join(v.Patterns, " ")}})
}

// addCleanup forgets the oldest that has ended when there are too many.
func (s *State) addCleanup(v Cleanup, delayMs uint64) (Cleanup, bool) {
	if s.cleanups.len() >= CleanupsMax {
		oldest := uint64(0)
		s.cleanups.ascend(0, func(id uint64, old Cleanup) bool {
			if old.State.ended() {
				oldest = id
			}
			return oldest == 0
		})
		if oldest == 0 {
			return v, false
		}
		s.cleanups.delete(oldest)
	}
	v.ID, v.State, v.CreatedAt, v.DueAt = s.nextToken(), CleanupWaiting, s.counters.Now, s.counters.Now+delayMs
	if delayMs == 0 {
		v.State = CleanupRunning
	}
	s.putCleanup(v)
	return v, true
}

func (s *State) putCleanup(v Cleanup) {
	v.Index = s.nextRevision()
	s.cleanups.set(v.ID, v)
	s.indexCleanup(v)
}

func (s *State) indexCleanup(v Cleanup) {
	if v.State == CleanupWaiting {
		s.setTimer(timer{due: v.DueAt, what: timerCleanup, id: v.ID})
	}
}

func (s *State) cleanupDue(id, due uint64) {
	v, ok := s.cleanups.get(id)
	if !ok || v.State != CleanupWaiting || v.DueAt != due {
		return
	}
	v.State = CleanupRunning
	s.putCleanup(v)
}

// considerCleanups begins the cleanups that the end of a service's instance, or of a kept place, has made possible: its own, and those
// that it alone stood in the way of.
func (s *State) considerCleanups(service string) {
	ended, _ := s.services.get(service)
	if ended.Cleanup == nil || s.members.count(service) > 0 || s.held.count(service) > 0 {
		return
	}
	var gone []Service
	s.services.ascend("", func(name string, v Service) bool {
		if r, _ := s.records.get(name); v.Cleanup != nil && r.Lived && v.Cleanup.Target == ended.Cleanup.Target &&
			(name == service || overlap(v.Cleanup.Patterns, ended.Cleanup.Patterns)) {
			gone = append(gone, v)
		}
		return true
	})
	for _, v := range gone {
		if len(s.usersOf(v.Cleanup.Target, v.Cleanup.Patterns)) > 0 {
			continue
		}
		if _, ok := s.addCleanup(Cleanup{Target: v.Cleanup.Target, Patterns: v.Cleanup.Patterns, Service: v.Name, Reason: "the last instance has left"}, v.Cleanup.DelayMs); ok {
			s.record(v.Name, func(r *Record) { r.Lived = false })
		}
	}
}

// stopCleanups stops what would remove the keys of a service that is coming back.
func (s *State) stopCleanups(service string) {
	v, _ := s.services.get(service)
	if v.Cleanup == nil {
		return
	}
	var stop []Cleanup
	s.cleanups.ascend(0, func(_ uint64, x Cleanup) bool {
		if !x.State.ended() && !x.DryRun && x.Target == v.Cleanup.Target && overlap(x.Patterns, v.Cleanup.Patterns) {
			stop = append(stop, x)
		}
		return true
	})
	for _, x := range stop {
		x.State, x.Why = CleanupStopped, "an instance of "+service+" has registered"
		s.putCleanup(x)
		if x.Service != "" && s.services.has(x.Service) {
			s.recordLife(x.Service) // its keys are still there, for the next time
		}
	}
}

// CheckpointCleanup logs progress before the next batch. It is refused when the cleanup is not running any more: then nothing further may
// be removed.
type CheckpointCleanup struct {
	ID      uint64   `cbor:"1,keyasint"`
	Pattern int      `cbor:"2,keyasint,omitempty"`
	Cursor  uint64   `cbor:"3,keyasint,omitempty"`
	Scanned uint64   `cbor:"4,keyasint,omitempty"` // totals
	Matched uint64   `cbor:"5,keyasint,omitempty"`
	Removed uint64   `cbor:"6,keyasint,omitempty"`
	Samples []string `cbor:"7,keyasint,omitempty"`
	Done    bool     `cbor:"8,keyasint,omitempty"`
	Failed  string   `cbor:"9,keyasint,omitempty"`
}

func (CheckpointCleanup) kind() Kind { return kindCheckpointCleanup }

func (c CheckpointCleanup) apply(s *State) Result {
	v, ok := s.cleanups.get(c.ID)
	switch {
	case !ok:
		return refuse(CodeCleanupNotFound, "no such cleanup")
	case v.State != CleanupRunning:
		return refuse(CodeCleanupEnded, "the cleanup is "+string(v.State))
	case c.Pattern < 0 || c.Pattern > len(v.Patterns) || len(c.Samples) > CleanupSamplesMax ||
		slices.ContainsFunc(c.Samples, func(k string) bool { return len(k) > SampleBytesMax }):
		return refuse(CodeInvalid, "pattern or samples out of bounds")
	}
	v.Pattern, v.Cursor, v.Scanned, v.Matched, v.Removed, v.Samples = c.Pattern, c.Cursor, c.Scanned, c.Matched, c.Removed, c.Samples
	switch {
	case c.Failed != "":
		v.State, v.Why = CleanupFailed, clip(c.Failed, ErrorBytesMax)
	case c.Done:
		v.State = CleanupDone
	}
	s.putCleanup(v)
	return Result{Cleanup: &CleanupResult{ID: v.ID, State: v.State}}
}

// CancelCleanup ends a cleanup at somebody's wish.
type CancelCleanup struct {
	ID     uint64 `cbor:"1,keyasint"`
	Reason string `cbor:"2,keyasint,omitempty"`
	WallMs uint64 `cbor:"3,keyasint,omitempty"`
}

func (CancelCleanup) kind() Kind { return kindCancelCleanup }

func (c CancelCleanup) apply(s *State) Result {
	v, ok := s.cleanups.get(c.ID)
	switch {
	case !ok:
		return refuse(CodeCleanupNotFound, "no such cleanup")
	case v.State == CleanupCancelled:
		return Result{Cleanup: &CleanupResult{ID: v.ID, State: v.State}}
	case v.State.ended():
		return refuse(CodeCleanupEnded, "the cleanup is "+string(v.State))
	}
	s.auditCleanup("cleanups.cancel", v, c.WallMs, clip(c.Reason, ReasonBytesMax))
	v.State, v.Why = CleanupCancelled, clip(c.Reason, ReasonBytesMax)
	s.putCleanup(v)
	return Result{Cleanup: &CleanupResult{ID: v.ID, State: v.State}}
}

// Cleanup gives a cleanup by id.
func (s *State) Cleanup(id uint64) (Cleanup, bool) { return s.cleanups.get(id) }

// Cleanups visits the cleanups in the order of their making, from the given id.
func (s *State) Cleanups(from uint64, visit func(Cleanup) bool) {
	s.cleanups.ascend(from, func(_ uint64, v Cleanup) bool { return visit(v) })
}
