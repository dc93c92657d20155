package reconcile

import (
	"context"
	"hash/maphash"
	"time"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/mysql"
)

// stray is a key that seemed to have no row. Like a row that differs it is open until it is old enough, and then put to the same questions again.
type stray struct {
	suspect // of the row that the key would be of
	key     string
	part    *keyPart

	seen  *strayLook // the second reading, while it waits for the relay
	asked time.Time
}

// strayLook is a reading of the row, of the key on the primary, and of the row again.
type strayLook struct {
	present bool // the row, in either reading
	actual  mapping.Actual
	mark    uint64 // of the relay, after the readings
}

// kindOfKey is what a key is that has no row.
type kindOfKey int

const (
	keyGone    kindOfKey = iota + 1 // not there any more
	keyForeign                      // of a type that the mapping never writes
	keyRight                        // holds what the mapping writes of a row that is missing
	keyExtra
)

// classify judges a key whose row is missing. Of a mapping that only invalidates, readers fill the keys with what they like.
func (k *keyPhase) classify(s *stray, actual mapping.Actual) (kindOfKey, error) {
	want := mapping.TypeString
	if k.mapping.Spec().Encoding == mapping.Hash {
		want = mapping.TypeHash
	}
	switch {
	case actual.Type == mapping.TypeNone:
		return keyGone, nil
	case actual.Type != want && k.mapping.NeedsRow():
		return keyForeign, nil
	}
	verdict, err := k.mapping.Compare(s.suspect.key, nil, actual)
	switch {
	case err != nil:
		return 0, &failure{"internal: compare: " + err.Error()}
	case matches(verdict):
		return keyRight, nil
	}
	return keyExtra, nil
}

// suspectKeys opens those keys whose row is missing. Keys that were suspected before were given twice.
func (k *keyPhase) suspectKeys(ctx context.Context, all []*stray) error {
	since, at := k.revision(), k.log.Now()
	rows, err := k.readRowsBy(ctx, k.bare, suspectsOf(all))
	if err != nil {
		return err
	}
	var strays []*stray
	var keys []string
	for _, s := range all {
		if missing(rows[s.ref.PK]) && k.remember(s.key) {
			strays, keys = append(strays, s), append(keys, s.key)
		}
	}
	actuals, err := k.readKeys(ctx, keys)
	if err != nil {
		return err
	}
	for i, s := range strays {
		kind, err := k.classify(s, actuals[i])
		switch {
		case err != nil:
			return err
		case kind == keyForeign:
			s.part.counts.Foreign++
		case kind == keyExtra:
			s.open, s.since, s.opened = true, since, at
			s.part.open = append(s.part.open, s)
		}
	}
	return nil
}

func suspectsOf(strays []*stray) []*suspect {
	out := make([]*suspect, len(strays))
	for i, s := range strays {
		out[i] = &s.suspect
	}
	return out
}

// missing: the row is gone, or not in the mapping.
func missing(row *mapping.Row) bool { return row == nil || row.Excluded }

// remember is false for a key that is remembered.
func (k *keyPhase) remember(key string) bool {
	h := maphash.String(k.seed, key)
	if _, twice := k.known[h]; twice {
		return false
	}
	if len(k.known) < strayKeysMax {
		k.known[h] = struct{}{}
	}
	return true
}

// confirmDue reads the open keys that are old enough again, and rules on those for which the relay has come far enough.
func (k *keyPhase) confirmDue(ctx context.Context) error {
	now := k.log.Now()
	for now >= k.logged.ConfirmMs {
		due := k.window.due(now-k.logged.ConfirmMs, mysql.BatchRowsMax)
		if len(due) == 0 {
			break
		}
		if err := k.lookAgainAt(ctx, due); err != nil {
			return err
		}
	}
	if err := k.rule(); err != nil {
		return err
	}
	open := k.window.open
	k.progress.update(func(shown *Progress) { shown.Open = open })
	return nil
}

func (k *keyPhase) lookAgainAt(ctx context.Context, strays []*stray) error {
	before, err := k.readRows(ctx, suspectsOf(strays))
	if err != nil {
		return err
	}
	keys := make([]string, len(strays))
	for i, s := range strays {
		keys[i] = s.key
	}
	actuals, err := k.readKeys(ctx, keys)
	if err != nil {
		return err
	}
	after, err := k.readRows(ctx, suspectsOf(strays))
	if err != nil {
		return err
	}
	mark, now := k.mark(), time.Now()
	for i, s := range strays {
		s.seen = &strayLook{present: !missing(before[s.ref.PK]) || !missing(after[s.ref.PK]), actual: actuals[i], mark: mark}
		s.asked = now
	}
	return nil
}

// rule closes the keys that were read again, but for those that the relay may still explain.
func (k *keyPhase) rule() error {
	since, at := k.revision(), k.log.Now()
	for _, part := range k.window.parts {
		left := part.open[:0]
		for _, s := range part.open {
			done := false
			if s.seen != nil {
				var err error
				if done, err = k.ruleOn(s, since, at); err != nil {
					return err
				}
			}
			if !done {
				left = append(left, s)
			}
		}
		k.window.open -= len(part.open) - len(left)
		part.open = left
	}
	return nil
}

// ruleOn answers false for a key that stays open.
func (k *keyPhase) ruleOn(s *stray, since, at uint64) (done bool, err error) {
	relay := k.relay(s.seen.mark)
	if relay == relayBehind && time.Since(s.asked) < k.config.RelayWait {
		return false, nil
	}
	moved := k.ask([]question{{ref: s.ref, since: s.since}})[0]
	kind, err := k.classify(s, s.seen.actual)
	counts := &s.part.counts
	switch {
	case err != nil:
		return false, err
	case kind == keyGone, kind == keyRight:
	case kind == keyForeign:
		counts.Foreign++
	case s.seen.present, moved.pending, relay != relayDone:
		counts.Hot++
	case moved.still():
		counts.Extra++
		s.part.found = append(s.part.found, extraKey{ref: s.ref, sample: k.exampleKey(s)})
	case s.rearms == rearmsMax:
		counts.Hot++
	default:
		s.rearms++
		s.seen, s.since, s.opened = nil, since, at
		return false, nil
	}
	return true, nil
}

// exampleKey keeps an extra key to be shown, as long as the pass has room for it.
func (k *keyPhase) exampleKey(s *stray) *fsm.Difference {
	if k.samples >= fsm.SamplesMax {
		return nil
	}
	k.samples++
	return &fsm.Difference{PK: s.ref.PK, Key: s.key, Class: classExtra, Actual: k.mapping.ShowActual(s.seen.actual, fsm.SampleBytesMax)}
}

// classExtra is the class of the samples of keys without a row.
const classExtra = "extra"
