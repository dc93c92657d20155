package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/mapping"
)

const plantSeed = 7

// plants are differences of known number and class.
type plants struct {
	stale, missing, wrongType, extra, spelled []string // keys; spelled ones differ in form only, and are none
	before                                    map[string]string
}

// planted measures how long it takes to find planted differences among all rows, and to repair them, and counts what was found and what was invented.
func (b *bench) planted(ctx context.Context, w *world) error {
	const name = "planted"
	if err := w.fillTable(ctx, b.rows); err != nil {
		return err
	}
	if err := w.fillCache(ctx, name, mapping.JSON); err != nil {
		return err
	}
	if err := w.declare(ctx, name, mapping.JSON); err != nil {
		return err
	}
	set, err := b.sow(ctx, w, name)
	if err != nil {
		return err
	}
	stop := func(context.Context) error { return nil }
	if b.profiles != "" {
		if stop, err = w.q.Profiles(ctx, b.profiles, "find"); err != nil {
			return err
		}
	}
	began := time.Now()
	found, err := w.pass(ctx, begin{Mapping: name, Mode: api.PassDryRun, Extras: true})
	if err != nil {
		return err
	}
	if found.State != "done" || found.Counts.Rows != uint64(b.rows) {
		return fmt.Errorf("%w: %+v", errPass, found)
	}
	b.figures["find_s"] = time.Since(began).Seconds()
	if err := stop(ctx); err != nil {
		return err
	}
	hits, invented := 0, 0
	for _, class := range []struct {
		planted int
		counted uint64
	}{
		{len(set.stale), found.Counts.Stale}, {len(set.missing), found.Counts.Missing}, {len(set.wrongType), found.Counts.WrongType}, {len(set.extra), found.Keys.Extra},
		{len(set.spelled), found.Counts.FormatOnly}, {0, found.Counts.NoTTL}, {0, found.Counts.Hot},
	} {
		hits += min(class.planted, int(class.counted))
		invented += max(0, int(class.counted)-class.planted)
	}
	all := len(set.stale) + len(set.missing) + len(set.wrongType) + len(set.extra) + len(set.spelled)
	b.figures["planted"], b.figures["found"], b.figures["invented"] = float64(all), float64(hits), float64(invented)
	b.text("planted among %d rows\t%d of %d found, %d invented, in %.1f s", b.rows, hits, all, invented, b.figures["find_s"])
	return b.repair(ctx, w, name, set)
}

// repair has them repaired, the removal of the extra keys approved, and looks at every planted key and at the number of keys.
func (b *bench) repair(ctx context.Context, w *world, name string, set plants) error {
	began := time.Now()
	id, err := w.start(ctx, begin{Mapping: name, Mode: api.PassRewrite, Cap: uint64(b.plant), Extras: true})
	if err != nil {
		return err
	}
	p, err := w.settled(ctx, id)
	if err != nil {
		return err
	}
	if p.State != "held" || p.Hold != "extras" || p.Keys.Extra != uint64(len(set.extra)) {
		return fmt.Errorf("%w: the pass should ask for the extra keys: %+v", errPass, p)
	}
	if err := w.client.Call(ctx, http.MethodPost, fmt.Sprintf("/v1/passes/%d/approve", id), struct{}{}, nil); err != nil {
		return err
	}
	if p, err = w.settled(ctx, id); err != nil {
		return err
	}
	if p.State != "done" {
		return fmt.Errorf("%w: %+v", errPass, p)
	}
	if err := w.drained(ctx); err != nil {
		return err
	}
	b.figures["repair_s"] = time.Since(began).Seconds()
	b.text("found and repaired\t%.1f s, %d rows written and %d keys removed", b.figures["repair_s"], p.Counts.Repaired, p.Keys.Removed)
	return w.healed(ctx, name, set)
}

// healed compares with what the keys held before anything was planted.
func (w *world) healed(ctx context.Context, name string, set plants) error {
	for key, want := range set.before {
		if got := w.Cache.Get(ctx, key).Val(); got != want {
			return fmt.Errorf("%w: %s is %q and was %q", errDiffers, key, got, want)
		}
	}
	if n := w.Cache.Exists(ctx, set.extra...).Val(); n != 0 {
		return fmt.Errorf("%w: %d extra keys are left", errDiffers, n)
	}
	return nil
}

// sow plants some differences of each class at random rows.
func (b *bench) sow(ctx context.Context, w *world, name string) (set plants, err error) {
	random := rand.New(rand.NewPCG(plantSeed, plantSeed))
	chosen := map[int]bool{}
	key := func() string {
		id := 1 + random.IntN(b.rows)
		for chosen[id] {
			id = 1 + random.IntN(b.rows)
		}
		chosen[id] = true
		return fmt.Sprintf("%s:%d", name, id)
	}
	each := b.plant / 5
	for range each {
		set.stale, set.missing, set.wrongType, set.spelled = append(set.stale, key()), append(set.missing, key()), append(set.wrongType, key()), append(set.spelled, key())
		set.extra = append(set.extra, fmt.Sprintf("%s:%d", name, b.rows+1+random.IntN(1<<40)))
	}
	set.stale = set.stale[:each/2*2] // they are swapped in pairs
	if set.before, err = w.original(ctx, append(append(append([]string(nil), set.stale...), set.missing...), set.wrongType...)); err != nil {
		return set, err
	}
	spelled, err := w.original(ctx, set.spelled)
	if err != nil {
		return set, err
	}
	pipe := w.Cache.TxPipeline()
	for i := 0; i < len(set.stale); i += 2 { // each has the other's value, which an XOR over a chunk cannot see
		pipe.Set(ctx, set.stale[i], set.before[set.stale[i+1]], 0)
		pipe.Set(ctx, set.stale[i+1], set.before[set.stale[i]], 0)
	}
	pipe.Del(ctx, set.missing...)
	pipe.Del(ctx, set.wrongType...)
	for _, k := range set.wrongType {
		pipe.RPush(ctx, k, "x")
	}
	for _, k := range set.spelled {
		pipe.Set(ctx, k, strings.Replace(spelled[k], ",", ", ", 1), 0)
	}
	for _, k := range set.extra {
		pipe.Set(ctx, k, "{}", 0)
	}
	_, err = pipe.Exec(ctx)
	return set, err
}
