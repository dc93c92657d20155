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

// look is what one reading of a row and of its keys says. The verdict is that of the worst key, and at says which one that is. The sums hold the digests of the keys that hold, or should hold, something.
type look struct {
	verdict          mapping.Verdict
	at               int
	expected, actual mapping.Sum
}

// matches tells whether there is nothing to repair.
func (l look) matches() bool { return matches(l.verdict) }

func matches(v mapping.Verdict) bool { return v == mapping.Equal || v == mapping.FormatOnly }

// severity orders the verdicts on the keys of one row.
var severity = [...]int{mapping.Equal: 1, mapping.FormatOnly: 2, mapping.NoTTL: 3, mapping.Missing: 4, mapping.Stale: 5, mapping.WrongType: 6}

// examiner judges keys by the rules of one pass.
type examiner struct {
	*mapping.Examiner
	mapping *mapping.Mapping
	fill    bool // an absent key is missing, also where it may be absent
}

func newExaminer(m *mapping.Mapping, fill bool) examiner {
	return examiner{Examiner: mapping.NewExaminer(m), mapping: m, fill: fill}
}

// examine judges each key of a row.
func examine(x examiner, row *mapping.Row, keys []string, actuals []mapping.Actual) (look, error) {
	all := look{verdict: mapping.Equal}
	for i, key := range keys {
		one, err := examineKey(x, key, row, actuals[i])
		if err != nil {
			return look{}, err
		}
		if severity[one.Verdict] > severity[all.verdict] {
			all.verdict, all.at = one.Verdict, i
		}
		if one.HasExpected {
			all.expected.Add(one.Expected)
		}
		if one.HasActual {
			all.actual.Add(one.Actual)
		}
	}
	return all, nil
}

// examineKey judges a key twice, by comparing and by digest, and fails the pass if the two do not agree: one of them would be wrong.
// A string is called equal only if its bytes are, so digesting them again could say nothing new and would cost a third of the pass.
// One rule is added to the mapping's own: a row that has no rendering must have no key, for delivery removes it before it gives up.
func examineKey(x examiner, key string, row *mapping.Row, actual mapping.Actual) (mapping.Examined, error) {
	if !x.mapping.NeedsRow() {
		return unverified(actual), nil
	}
	seen, err := x.Examine(key, row, actual)
	switch {
	case errors.Is(err, mapping.ErrUnrenderable), errors.Is(err, mapping.ErrTooLarge):
		if actual.Type == mapping.TypeNone {
			return mapping.Examined{Verdict: mapping.Equal}, nil
		}
		seen = mapping.Examined{Verdict: mapping.Stale, HasActual: true, Actual: mapping.Digest(key, actual.Type, actual.Value)}
	case err != nil:
		return mapping.Examined{}, &failure{"internal: compare: " + err.Error()}
	}
	if x.fill && actual.Type == mapping.TypeNone && seen.Verdict == mapping.Equal {
		return x.absent(key, row)
	}
	sameDigest := seen.HasExpected == seen.HasActual && (!seen.HasExpected || seen.Expected == seen.Actual)
	sameValue := matches(seen.Verdict) || seen.Verdict == mapping.NoTTL
	if sameDigest != sameValue {
		return mapping.Examined{}, &failure{fmt.Sprintf("internal: comparison (%s) and digest disagree about key %q", seen.Verdict, key)}
	}
	return seen, nil
}

// absent judges a key that may be absent in a pass that fills: it is missing if the row gives it something to hold.
func (x examiner) absent(key string, row *mapping.Row) (mapping.Examined, error) {
	expected, holds, err := x.mapping.DigestRow(key, row)
	if err != nil {
		return mapping.Examined{}, &failure{"internal: digest: " + err.Error()}
	}
	if !holds {
		return mapping.Examined{Verdict: mapping.Equal}, nil
	}
	return mapping.Examined{Verdict: mapping.Missing, Expected: expected, HasExpected: true}, nil
}

// unverified: nobody can vouch for the value of a key that readers fill.
func unverified(actual mapping.Actual) mapping.Examined {
	if actual.Type == mapping.TypeNone {
		return mapping.Examined{Verdict: mapping.Equal}
	}
	return mapping.Examined{Verdict: mapping.Stale}
}

func sameRow(a, b *mapping.Row) bool {
	return a.Excluded == b.Excluded && slices.EqualFunc(a.Values, b.Values, func(x, y mapping.Cell) bool { return x.Null == y.Null && bytes.Equal(x.Bytes, y.Bytes) })
}

// rowBytes is the size of a row's values.
func rowBytes(row mapping.Row) int {
	n := 0
	for _, cell := range row.Values {
		n += len(cell.Bytes)
	}
	return n
}

// cut gives the number of rows, at least one, whose keys are read at once. Each row has the given number of keys.
func cut(rows []mapping.Row, keys int) int {
	bytes, most := 0, min(len(rows), max(1, redisKeysMax/keys))
	for i, row := range rows[:most] {
		bytes += rowBytes(row) * keys
		if i > 0 && bytes > redisBytesMax {
			return i
		}
	}
	return most
}

// readKeys reads what the cache holds under keys.
func (p *pass) readKeys(ctx context.Context, keys []string) ([]mapping.Actual, error) {
	spec, kind := p.mapping.Spec(), mapping.TypeString
	if spec.Encoding == mapping.Hash {
		kind = mapping.TypeHash
	}
	forever := spec.TTLMillis == 0 && spec.NegativeTTLMillis == 0
	actuals := make([]mapping.Actual, 0, len(keys))
	for part := range slices.Chunk(keys, redisKeysMax) {
		requests := make([]rediscache.KeyRequest, len(part))
		for i, key := range part {
			requests[i] = rediscache.KeyRequest{Key: key, Type: kind, Forever: forever}
		}
		err := p.retry(ctx, laneJudge, func() error {
			read, err := p.target.Read(ctx, requests)
			if err == nil {
				actuals = append(actuals, read...)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return actuals, nil
}

// sandwich is a row, its key, and the row again. The cache was read while the row was certainly the same if both readings of it are.
type sandwich struct {
	since  uint64 // revision of the state before the first reading
	at     uint64 // cluster time then
	row    *mapping.Row
	steady bool
	actual []mapping.Actual // of its keys
	look   look
	mark   uint64 // of the relay, after the readings

	movement
	relay relayed
}

// present tells whether any of the row's keys is there.
func (v sandwich) present() bool {
	return slices.ContainsFunc(v.actual, func(a mapping.Actual) bool { return a.Type != mapping.TypeNone })
}

// reread takes a sandwich of each suspect, all at once. Whether the row is on the move is asked afterwards: see interrogate.
func (p *pass) reread(ctx context.Context, suspects []*suspect) ([]sandwich, error) {
	since, at := p.revision(), p.log.Now()
	before, err := p.readRows(ctx, suspects)
	if err != nil {
		return nil, err
	}
	n := p.mapping.KeyCount()
	keys := make([]string, 0, n*len(suspects))
	for _, s := range suspects {
		keys = p.mapping.AppendKeys(keys, s.key)
	}
	actuals, err := p.readKeys(ctx, keys)
	if err != nil {
		return nil, err
	}
	after, err := p.readRows(ctx, suspects)
	if err != nil {
		return nil, err
	}
	mark := p.mark()
	out := make([]sandwich, len(suspects))
	for i, s := range suspects {
		first, row := before[s.ref.PK], after[s.ref.PK]
		out[i] = sandwich{since: since, at: at, row: row, actual: actuals[i*n : (i+1)*n], mark: mark}
		if row == nil {
			continue
		}
		out[i].steady = first != nil && (!p.mapping.NeedsRow() || sameRow(first, row))
		if out[i].look, err = examine(p.examiner, row, keys[i*n:(i+1)*n], out[i].actual); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (p *pass) revision() (n uint64) {
	p.log.View(func(s *fsm.State) { n = s.Revision() })
	return n
}

// interrogate asks what moved since each sandwich, or since its suspect was opened.
func (p *pass) interrogate(suspects []*suspect, seen []sandwich) {
	questions := make([]question, len(suspects))
	for i, s := range suspects {
		if i > 0 && seen[i].mark == seen[i-1].mark {
			seen[i].relay = seen[i-1].relay
		} else {
			seen[i].relay = p.relay(seen[i].mark) // before the rest: see ask
		}
		questions[i] = question{ref: s.ref, since: seen[i].since}
		if s.open {
			questions[i].since = s.since
		}
	}
	for i, m := range p.ask(questions) {
		seen[i].movement = m
	}
}

// readRows halves what is too large to be read at once. Rows of different halves are then read at different times, which matters to none
// of them: a sandwich is about one row.
func (p *pass) readRows(ctx context.Context, suspects []*suspect) (map[string]*mapping.Row, error) {
	return p.readRowsBy(ctx, p.mapping, suspects)
}

// readRowsBy reads what the mapping that is given names of the rows.
func (p *pass) readRowsBy(ctx context.Context, m *mapping.Mapping, suspects []*suspect) (map[string]*mapping.Row, error) {
	var rows map[string]*mapping.Row
	tuples := make([][]string, len(suspects))
	for i, s := range suspects {
		tuples[i] = s.key
	}
	tooLarge := false
	err := p.retry(ctx, laneJudge, func() (err error) {
		rows, err = p.source.ReadRows(ctx, m, tuples)
		if tooLarge = errors.Is(err, mysql.ErrBatchTooLarge) && len(tuples) > 1; tooLarge {
			return nil
		}
		return err
	})
	if err != nil || !tooLarge {
		return rows, err
	}
	half := len(suspects) / 2
	rows, err = p.readRowsBy(ctx, m, suspects[:half])
	if err != nil {
		return nil, err
	}
	rest, err := p.readRowsBy(ctx, m, suspects[half:])
	for key, row := range rest {
		rows[key] = row
	}
	return rows, err
}
