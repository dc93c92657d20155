package reconcile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/mysql"
	"github.com/quiescehq/quiesce/rediscache"
)

// look is what one reading of a row and of its key says. A digest without its has flag stands for a key that holds, or should hold, nothing.
type look struct {
	verdict                mapping.Verdict
	expected, actual       [16]byte
	hasExpected, hasActual bool
}

// matches tells whether there is nothing to repair.
func (l look) matches() bool { return l.verdict == mapping.Equal || l.verdict == mapping.FormatOnly }

// examine judges a row twice, by comparing and by digest, and fails the pass if the two do not agree: one of them would be wrong.
// JSON is called equal only if its bytes are, so digesting them again could say nothing new and would cost a third of the pass.
func examine(m *mapping.Mapping, key string, row *mapping.Row, actual mapping.Actual) (look, error) {
	l, err := verdictOf(m, row, actual)
	if err != nil {
		return look{}, err
	}
	if l.verdict == mapping.Equal && l.hasExpected && actual.Type == mapping.TypeString {
		l.actual, l.hasActual = l.expected, true
		return l, nil
	}
	l.actual, l.hasActual = m.DigestActual(key, actual)
	sameDigest := l.hasExpected == l.hasActual && (!l.hasExpected || l.expected == l.actual)
	sameValue := l.matches() || l.verdict == mapping.NoTTL
	if sameDigest != sameValue {
		return look{}, &failure{fmt.Sprintf("internal: comparison (%s) and digest disagree about key %q", l.verdict, key)}
	}
	return l, nil
}

// verdictOf adds two rules to the mapping's own. A key that may expire may be absent: that is a miss, and readers go to the table. A row
// that has no rendering must have no key: delivery removes it before it gives up.
func verdictOf(m *mapping.Mapping, row *mapping.Row, actual mapping.Actual) (look, error) {
	absent := actual.Type == mapping.TypeNone
	verdict, err := m.Compare(row.PK, row, actual)
	if errors.Is(err, mapping.ErrUnrenderable) || errors.Is(err, mapping.ErrTooLarge) {
		if absent {
			return look{verdict: mapping.Equal}, nil
		}
		return look{verdict: mapping.Stale}, nil
	}
	if err != nil {
		return look{}, &failure{"internal: compare: " + err.Error()}
	}
	if absent && m.Spec().TTLMillis > 0 {
		return look{verdict: mapping.Equal}, nil
	}
	l := look{verdict: verdict}
	if l.expected, l.hasExpected, err = m.DigestRow(row.PK, row); err != nil {
		return look{}, &failure{"internal: digest: " + err.Error()}
	}
	return l, nil
}

func sameRow(a, b *mapping.Row) bool {
	return slices.EqualFunc(a.Values, b.Values, func(x, y mapping.Cell) bool { return x.Null == y.Null && bytes.Equal(x.Bytes, y.Bytes) })
}

// rowBytes is the size of a row's values.
func rowBytes(row mapping.Row) int {
	n := 0
	for _, cell := range row.Values {
		n += len(cell.Bytes)
	}
	return n
}

// cut gives the number of rows, at least one, whose keys are read at once.
func cut(rows []mapping.Row) int {
	bytes := 0
	for i, row := range rows[:min(len(rows), redisKeysMax)] {
		bytes += rowBytes(row)
		if i > 0 && bytes > redisBytesMax {
			return i
		}
	}
	return min(len(rows), redisKeysMax)
}

// readKeys reads what the cache holds under keys.
func (p *pass) readKeys(ctx context.Context, keys []string) ([]mapping.Actual, error) {
	kind := mapping.TypeString
	if p.mapping.Spec().Encoding == mapping.Hash {
		kind = mapping.TypeHash
	}
	requests := make([]rediscache.KeyRequest, len(keys))
	for i, key := range keys {
		requests[i] = rediscache.KeyRequest{Key: key, Type: kind}
	}
	var actuals []mapping.Actual
	err := p.retry(ctx, laneJudge, func() (err error) {
		actuals, err = p.target.Read(ctx, requests)
		return err
	})
	return actuals, err
}

// sandwich is a row, its key, and the row again. The cache was read while the row was certainly the same if both readings of it are.
type sandwich struct {
	since  uint64 // revision of the state before the first reading
	at     uint64 // cluster time then
	row    *mapping.Row
	steady bool
	actual mapping.Actual
	look   look

	pending          bool // an event of the row is on its way
	touched, covered bool // by deliveries; see Acknowledgements
}

// reread takes a sandwich of each suspect, all at once. Whether the row is on the move is asked last, and in this order: what was pending
// after the readings is seen as pending, and what was settled before that is in the outbox's memory.
func (p *pass) reread(ctx context.Context, suspects []*suspect) ([]sandwich, error) {
	since, at := p.revision(), p.log.Now()
	before, err := p.readRows(ctx, suspects)
	if err != nil {
		return nil, err
	}
	keys := make([]string, len(suspects))
	for i, s := range suspects {
		keys[i] = p.mapping.Key(s.pk)
	}
	actuals, err := p.readKeys(ctx, keys)
	if err != nil {
		return nil, err
	}
	after, err := p.readRows(ctx, suspects)
	if err != nil {
		return nil, err
	}
	out := make([]sandwich, len(suspects))
	for i, s := range suspects {
		first, row := before[s.ref.PK], after[s.ref.PK]
		out[i] = sandwich{since: since, at: at, row: row, actual: actuals[i]}
		if row == nil {
			continue
		}
		out[i].steady = first != nil && sameRow(first, row)
		if out[i].look, err = examine(p.mapping, keys[i], row, actuals[i]); err != nil {
			return nil, err
		}
	}
	p.askOutbox(suspects, out)
	return out, nil
}

func (p *pass) revision() (n uint64) {
	p.log.View(func(s *fsm.State) { n = s.Revision() })
	return n
}

func (p *pass) askOutbox(suspects []*suspect, out []sandwich) {
	p.log.View(func(s *fsm.State) {
		for i, suspect := range suspects {
			_, out[i].pending = s.Event(suspect.ref)
		}
	})
	for i, suspect := range suspects {
		since := out[i].since
		if suspect.open {
			since = suspect.since
		}
		out[i].touched, out[i].covered = p.acks.Recent(suspect.ref, since)
	}
}

// readRows halves what is too large to be read at once. Rows of different halves are then read at different times, which matters to none
// of them: a sandwich is about one row.
func (p *pass) readRows(ctx context.Context, suspects []*suspect) (map[string]*mapping.Row, error) {
	var rows map[string]*mapping.Row
	pks := make([][]string, len(suspects))
	for i, s := range suspects {
		pks[i] = s.pk
	}
	tooLarge := false
	err := p.retry(ctx, laneJudge, func() (err error) {
		rows, err = p.source.ReadRows(ctx, p.mapping, pks)
		if tooLarge = errors.Is(err, mysql.ErrBatchTooLarge) && len(pks) > 1; tooLarge {
			return nil
		}
		return err
	})
	if err != nil || !tooLarge {
		return rows, err
	}
	half := len(suspects) / 2
	rows, err = p.readRows(ctx, suspects[:half])
	if err != nil {
		return nil, err
	}
	rest, err := p.readRows(ctx, suspects[half:])
	for pk, row := range rest {
		rows[pk] = row
	}
	return rows, err
}
