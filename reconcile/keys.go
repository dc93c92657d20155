package reconcile

import (
	"cmp"
	"context"
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/mysql"
	"github.com/quiescehq/quiesce/rediscache"
)

// Sweeper is a [Target] whose keys can be gone over; [rediscache.Target] is one.
type Sweeper interface {
	BeginSweep(ctx context.Context) (*rediscache.Sweep, error)
}

// strayKeysMax bounds the keys that are remembered because they had no row: SCAN may give a key twice, and it counts once. Beyond, such a key may count again.
const strayKeysMax = 1 << 20

// keyPhase is the second phase of a pass: it goes over the target's keys for those without a row. It belongs to one goroutine.
type keyPhase struct {
	*pass
	sweeper  Sweeper
	sweep    *rediscache.Sweep // nil until the first scan, and after an error
	pattern  string
	prefixes []string
	bare     *mapping.Mapping // asks whether rows exist

	at     fsm.KeyCursor // where the next scan begins
	life   string        // that the counts are of
	window keyWindow
	known  map[uint64]struct{} // keys that were suspected in this life
	seed   maphash.Seed
}

// compareKeys goes over the keys from where the pass was logged, to their end, and has the pass held if somebody has to approve of the removal of what was found.
func (p *pass) compareKeys(ctx context.Context) error {
	k, err := newKeyPhase(p)
	if err != nil {
		return err
	}
	defer k.drop()
	if err := k.begin(ctx); err != nil {
		return err
	}
	if err := k.run(ctx); err != nil {
		return err
	}
	return k.conclude(ctx)
}

func newKeyPhase(p *pass) (*keyPhase, error) {
	spec := p.mapping.Spec()
	k := &keyPhase{pass: p, prefixes: p.mapping.Prefixes(), bare: p.mapping.KeysOnly(), at: p.logged.Scan, life: p.logged.Scan.Life, known: map[uint64]struct{}{}, seed: maphash.MakeSeed()}
	var sweeps bool
	k.sweeper, sweeps = p.target.(Sweeper)
	switch {
	case !spec.OwnsPrefix:
		return nil, &failure{"not_comparable: the mapping does not say owns_prefix, so keys that look like its own may be somebody else's"}
	case p.logged.From != "" || p.logged.To != "" || p.logged.SamplePPM%1_000_000 != 0:
		return nil, &failure{"not_comparable: keys without a row have no place in a range or a sample of the table"}
	case slices.Contains(k.prefixes, ""):
		return nil, &failure{"not_comparable: a key template begins with a column, so no prefix is the mapping's own"}
	case !sweeps:
		return nil, &failure{"internal: the target's keys cannot be listed"}
	}
	k.pattern = globEscape(commonPrefix(k.prefixes)) + "*"
	return k, nil
}

func commonPrefix(texts []string) string {
	prefix := texts[0]
	for _, t := range texts[1:] {
		for !strings.HasPrefix(t, prefix) {
			prefix = prefix[:len(prefix)-1]
		}
	}
	return prefix
}

// globEscape takes its meaning from what stands for other text in a pattern.
func globEscape(literal string) string {
	return strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `\`, `\\`).Replace(literal)
}

// begin logs that the rows are done, so that no later leader looks at them again.
func (k *keyPhase) begin(ctx context.Context) error {
	k.samples = len(k.logged.Samples)
	k.saved = time.Now()
	k.progress.update(func(shown *Progress) { shown.Phase = fsm.PassKeys })
	if k.logged.Phase == fsm.PassKeys {
		return nil
	}
	return k.logKeys(ctx, fsm.CheckpointKeys{ID: k.logged.ID})
}

// ended: a cursor is 0 at the first key and behind the last one, but before the first scan no life of the target is known.
func ended(c fsm.KeyCursor) bool { return c.Life != "" && c.Cursor == 0 }

func (k *keyPhase) run(ctx context.Context) error {
	for {
		if err := k.confirmDue(ctx); err != nil {
			return err
		}
		over := ended(k.at)
		if err := k.checkpointIfDue(ctx, over); err != nil {
			return err
		}
		switch {
		case over && len(k.window.parts) == 0:
			return nil
		case over || k.window.open >= k.config.OpenMax:
			if err := k.sleep(ctx); err != nil {
				return err
			}
		default:
			if err := k.scanPart(ctx); err != nil {
				return err
			}
		}
	}
}

// sleep waits until a suspect is old enough, or the relay may have come further.
func (k *keyPhase) sleep(ctx context.Context) error {
	k.progress.wait(laneJudge, waitConfirming)
	defer k.progress.wait(laneJudge, "")
	timer := time.NewTimer(k.untilDue())
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func (k *keyPhase) untilDue() time.Duration {
	wait := time.Duration(math.MaxInt64)
	opened, asked := k.window.earliest()
	if asked {
		wait = relayPoll
	}
	if opened != nil {
		due, now := opened.opened+k.logged.ConfirmMs, k.log.Now()
		wait = min(wait, time.Duration(due-min(now, due))*time.Millisecond)
	}
	if k.window.closed() {
		wait = min(wait, max(0, k.config.CheckpointEvery-time.Since(k.saved)))
	}
	return wait
}

// partKeys are gathered before their rows are looked for, in the order of the table: SCAN gives them in none, and each row would be on another page of a table that does not fit into the
// database's memory. They are fewer where there is a rate, so that the pass does not stand still for long.
func (k *keyPhase) partKeys() int {
	most := k.config.PartKeys
	if k.logged.RateMax > 0 {
		most = min(most, rowsAtATime(int(min(k.logged.RateMax, perSecondMax))))
	}
	if k.config.KeysPerSecond > 0 {
		most = min(most, rowsAtATime(k.config.KeysPerSecond))
	}
	return most
}

// scanPart takes the next keys and looks for their rows.
func (k *keyPhase) scanPart(ctx context.Context) error {
	if _, err := k.mappingRecord(); err != nil {
		return err
	}
	if err := k.admit(ctx); err != nil {
		return err
	}
	part := &keyPart{}
	var keys []string
	for began := time.Now(); len(keys) < k.partKeys() && time.Since(began) < k.config.CheckpointEvery; {
		found, err := k.scan(ctx)
		if err != nil {
			return err
		}
		if err := k.spend(ctx, len(found.Keys), len(found.Keys)); err != nil {
			return err
		}
		if found.Life != k.life && k.life != "" {
			k.logger.Info("the target is in another life, its keys are gone over anew")
			k.restart(found.Life)
			return nil
		}
		k.life = found.Life
		k.at = fsm.KeyCursor{Life: found.Life, Cursor: found.Cursor}
		part.counts.Looked += found.Looked
		keys = append(keys, found.Keys...)
		if ended(k.at) {
			break
		}
	}
	part.cursor = k.at
	if err := k.judgePart(ctx, part, keys); err != nil {
		return err
	}
	k.window.add(part)
	open := k.window.open
	k.progress.update(func(shown *Progress) { shown.Open = open })
	return nil
}

// scan asks for the next keys. A sweep is over after an error; the next one tells whether the target still is in the same life.
func (k *keyPhase) scan(ctx context.Context) (found rediscache.Scanned, err error) {
	err = k.retry(ctx, laneJudge, func() (err error) {
		if k.sweep == nil {
			if k.sweep, err = k.sweeper.BeginSweep(ctx); err != nil {
				k.sweep = nil
				return err
			}
		}
		cursor := k.at.Cursor
		if life := k.sweep.Identity().Life; life != k.life && k.life != "" {
			found = rediscache.Scanned{Life: life}
			return nil
		}
		if found, err = k.sweep.Scan(ctx, k.pattern, cursor); err != nil {
			k.drop()
		}
		return err
	})
	return found, err
}

func (k *keyPhase) drop() {
	if k.sweep != nil {
		k.sweep.Close()
		k.sweep = nil
	}
}

// restart begins at the first key of another life. What was removed stays counted: it was approved once.
func (k *keyPhase) restart(life string) {
	k.life, k.at = life, fsm.KeyCursor{}
	k.known = map[uint64]struct{}{}
	k.window = keyWindow{anew: true}
}

// conclude has the pass held if keys were found that it may not remove, or not that many.
func (k *keyPhase) conclude(ctx context.Context) error {
	c := k.logged.Keys
	if k.logged.Mode == fsm.PassDryRun || c.Extra <= c.Removed {
		return nil
	}
	reason := fmt.Sprintf("%d keys without a row were found among %d; they are removed when somebody approves of it", c.Extra, c.Matched)
	if k.logged.Removals > 0 {
		reason = fmt.Sprintf("%d keys without a row were found, %d of them are being removed, as many as were approved", c.Extra, c.Removed)
	}
	if _, err := k.propose(ctx, fsm.HoldPass{ID: k.logged.ID, Hold: fsm.HoldExtras, Reason: reason}); err != nil {
		return err
	}
	return errEnded
}

// mine tells whether a key begins as the mapping's keys do.
func (k *keyPhase) mine(key string) bool {
	return slices.ContainsFunc(k.prefixes, func(prefix string) bool { return strings.HasPrefix(key, prefix) })
}

// judgePart parses keys and looks for the rows of those that are the mapping's.
func (k *keyPhase) judgePart(ctx context.Context, part *keyPart, keys []string) error {
	var strays []*stray
	for _, key := range keys {
		if !k.mine(key) {
			continue
		}
		part.counts.Matched++
		tuple, ok := k.mapping.Parse(key)
		if !ok {
			part.counts.Foreign++
			continue
		}
		strays = append(strays, &stray{key: key, suspect: suspect{key: tuple, ref: fsm.RowRef{Mapping: k.logged.Mapping, PK: mapping.EncodeKey(tuple)}}, part: part})
	}
	slices.SortFunc(strays, func(a, b *stray) int { return compareTuples(a.suspect.key, b.suspect.key) })
	for some := range slices.Chunk(strays, mysql.BatchRowsMax) {
		if err := k.suspectKeys(ctx, some); err != nil {
			return err
		}
	}
	k.progress.update(func(shown *Progress) { shown.Rows += uint64(len(keys)) })
	return nil
}

// compareTuples is about the order of the table: shorter numbers are smaller, and other texts are compared as they are. Nothing but speed depends on it.
func compareTuples(a, b []string) int {
	return slices.CompareFunc(a, b, func(x, y string) int {
		if isDigits(x) && isDigits(y) {
			return cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(x, y))
		}
		return strings.Compare(x, y)
	})
}

func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
