package reconcile

import (
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mapping"
)

func TestDigest_SwappedValuesChangeTheSumWhereXorOfCRCIsBlind(t *testing.T) {
	t.Parallel()
	type row struct{ key, value string }
	right := []row{{"order:1001", "alice#100.50"}, {"order:1002", "bobby#200.75"}}
	swapped := []row{{"order:1001", "bobby#200.75"}, {"order:1002", "alice#100.50"}}
	sum := func(rows []row) (s mapping.Sum) {
		for _, r := range rows {
			s.Add(mapping.Digest(r.key, "raw", []byte(r.value)))
		}
		return s
	}
	xor := func(rows []row) (x uint32) {
		for _, r := range rows {
			x ^= crc32.ChecksumIEEE([]byte(r.key + "#" + r.value))
		}
		return x
	}
	if xor(right) != xor(swapped) {
		t.Error("the control is broken: BIT_XOR(CRC32(CONCAT_WS('#', …))) tells the two apart")
	}
	if sum(right) == sum(swapped) {
		t.Error("the sum does not see that two values were swapped")
	}
}

func steadyDifference() sandwich {
	return sandwich{since: 7, at: 1_000, row: &mapping.Row{}, steady: true, relay: relayDone, movement: movement{covered: true}, look: look{verdict: mapping.Stale, expected: mapping.Sum{Count: 1, Hi: 1}}}
}

func TestSuspect_OnlyAnUnexplainedDifferenceIsOpened(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*sandwich)
		want   ruling
	}{
		"steady and different":            {func(*sandwich) {}, ruledOpen},
		"row is gone":                     {func(v *sandwich) { v.row = nil }, ruledHot},
		"event pending":                   {func(v *sandwich) { v.pending = true }, ruledHot},
		"relay is paused":                 {func(v *sandwich) { v.relay = relayPaused }, ruledHot},
		"relay is behind":                 {func(v *sandwich) { v.relay = relayBehind }, ruledOpen},
		"agrees after all":                {func(v *sandwich) { v.look.verdict = mapping.Equal }, ruledMatch},
		"differs in format":               {func(v *sandwich) { v.look.verdict = mapping.FormatOnly }, ruledMatch},
		"row changed between its reads":   {func(v *sandwich) { v.steady = false }, ruledAgain},
		"agrees with a row that changed":  {func(v *sandwich) { v.steady, v.look.verdict = false, mapping.Equal }, ruledAgain},
		"delivered meanwhile":             {func(v *sandwich) { v.touched = true }, ruledAgain},
		"delivered meanwhile, who knows?": {func(v *sandwich) { v.covered = false }, ruledAgain},
	} {
		v := steadyDifference()
		test.change(&v)
		s := &suspect{}
		if got := s.rule(v); got != test.want || s.open != (test.want == ruledOpen) {
			t.Errorf("%s: ruling %d (open %v), want %d", name, got, s.open, test.want)
		}
	}
}

func TestSuspect_OnlyAStableDifferenceIsConfirmed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*sandwich)
		want   ruling
	}{
		"same as before":            {func(*sandwich) {}, ruledConfirmed},
		"another kind of wrong":     {func(v *sandwich) { v.look.verdict = mapping.Missing }, ruledConfirmed},
		"row is gone":               {func(v *sandwich) { v.row = nil }, ruledHot},
		"event pending":             {func(v *sandwich) { v.pending = true }, ruledHot},
		"relay is paused":           {func(v *sandwich) { v.relay = relayPaused }, ruledHot},
		"relay is behind":           {func(v *sandwich) { v.relay = relayBehind }, ruledWait},
		"relay is behind, healed":   {func(v *sandwich) { v.relay, v.look.verdict = relayBehind, mapping.Equal }, ruledMatch},
		"healed":                    {func(v *sandwich) { v.look.verdict = mapping.Equal }, ruledMatch},
		"delivered since":           {func(v *sandwich) { v.touched = true }, ruledOpen},
		"who knows what since":      {func(v *sandwich) { v.covered = false }, ruledOpen},
		"row changed since":         {func(v *sandwich) { v.look.expected = mapping.Sum{Count: 1, Hi: 2} }, ruledOpen},
		"row changes while we look": {func(v *sandwich) { v.steady = false }, ruledOpen},
	} {
		s := &suspect{}
		s.rule(steadyDifference())
		v := steadyDifference()
		v.since, v.at = 9, 11_000
		test.change(&v)
		if got := s.confirm(v); got != test.want {
			t.Errorf("%s: ruling %d, want %d", name, got, test.want)
		}
		if test.want != ruledOpen {
			continue
		}
		if s.since != 9 || s.opened != 11_000 || s.expected != v.look.expected {
			t.Errorf("%s: it was not opened anew: %+v", name, s)
		}
		rulings := []ruling{s.confirm(v), s.confirm(v)}
		if name != "row changed since" && rulings[1] != ruledHot {
			t.Errorf("%s: moving for ever ends in %v, want hot", name, rulings)
		}
	}
}

func TestWindow_LogsEveryRowOnceInOrderAndNeverPastAnOpenOne(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		var w window
		rows, logged, found := uint64(0), uint64(0), 0
		for step := range 200 {
			switch random.IntN(4) {
			case 0, 1:
				s := &stretch{cursor: fmt.Sprint(rows)}
				for range random.IntN(5) {
					s.tally.countHot()
					rows++
				}
				if random.IntN(2) == 0 {
					s.open = &suspect{ref: fsm.RowRef{PK: fmt.Sprint(rows)}, opened: uint64(step)}
					rows++
				} else if s.tally.counts.Rows == 0 {
					continue
				}
				s.cursor = fmt.Sprint(rows - 1)
				w.add(s)
			case 2:
				for _, s := range w.due(uint64(step), random.IntN(3)) {
					s.tally.countHot()
					s.open, s.found = nil, &fsm.RowRef{}
					w.open--
				}
			case 3:
				limit := random.IntN(3)
				got, refused := 0, random.IntN(4) == 0
				taken, beyond := w.take(limit, func(s *stretch) bool { return !refused || s.found == nil })
				for _, s := range taken {
					logged += s.tally.counts.Rows
					if s.cursor != fmt.Sprint(logged-1) {
						t.Fatalf("seed %d: cursor %s after %d rows", seed, s.cursor, logged)
					}
					if s.found != nil {
						got++
					}
				}
				found += got
				if got > limit || refused && got > 0 || beyond != nil && (!refused || beyond != w.stretches[0]) {
					t.Fatalf("seed %d: %d differences taken of %d", seed, got, limit)
				}
			}
			open := 0
			for _, s := range w.stretches {
				if s.open != nil {
					open++
				}
			}
			if open != w.open {
				t.Fatalf("seed %d: %d open, counted %d", seed, open, w.open)
			}
		}
	}
}

func TestSizer_FindsTheRowsThatFitTheTime(t *testing.T) {
	t.Parallel()
	config := Default()
	settle := func(perRow time.Duration, start int) int {
		s := newSizer(config)
		s.rows = start
		for range 30 {
			s.took(s.rows, time.Duration(s.rows)*perRow)
		}
		return s.rows
	}
	for _, test := range []struct {
		perRow time.Duration
		want   int
	}{{time.Microsecond, config.ChunkRowsMax}, {100 * time.Microsecond, 3_000}, {time.Millisecond, 300}, {time.Second, chunkRowsMin}} {
		for _, start := range []int{chunkRowsMin, config.ChunkRowsMax} {
			if got := settle(test.perRow, start); got < test.want*9/10 || got > test.want*11/10 {
				t.Errorf("%v a row from %d: %d rows, want about %d", test.perRow, start, got, test.want)
			}
		}
	}
	s := newSizer(config)
	for range 20 {
		s.failed()
	}
	if s.rows != chunkRowsMin {
		t.Errorf("after failures: %d rows", s.rows)
	}
}

func TestCut_BoundsKeysAndBytesOfOneRead(t *testing.T) {
	t.Parallel()
	row := func(size int) mapping.Row { return mapping.Row{Values: []mapping.Cell{{Bytes: make([]byte, size)}}} }
	many := make([]mapping.Row, redisKeysMax+1)
	for name, test := range map[string]struct {
		rows []mapping.Row
		keys int
		want int
	}{
		"as many as may be":   {many[:redisKeysMax], 1, redisKeysMax},
		"one more":            {many, 1, redisKeysMax},
		"three keys each":     {many, 3, redisKeysMax / 3},
		"full to the byte":    {[]mapping.Row{row(redisBytesMax - 1), row(1), row(1)}, 1, 2},
		"each key has bytes":  {[]mapping.Row{row(redisBytesMax - 1), row(1), row(1)}, 2, 1},
		"one large row alone": {[]mapping.Row{row(2 * redisBytesMax), row(1)}, 1, 1},
	} {
		if got := cut(test.rows, test.keys); got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}
}

func compiled(t *testing.T, change func(*mapping.Spec)) *mapping.Mapping {
	t.Helper()
	spec := mapping.Spec{Source: "shop", Table: "t", PrimaryKey: []string{"id"}, Target: "cache", Key: "t:{id}", Mode: mapping.WriteThrough,
		Encoding: mapping.JSON, Columns: []mapping.ColumnSpec{{Name: "name"}}}
	if change != nil {
		change(&spec)
	}
	key := mapping.NewColumn("id", "int(11)", false)
	key.KeyPart = 1
	m, err := mapping.Compile(spec, 1, []mapping.Column{key, mapping.NewColumn("name", "varchar(9)", true)})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestExamine_RowWithoutRenderingMustHaveNoKey(t *testing.T) {
	t.Parallel()
	m := compiled(t, nil)
	row := &mapping.Row{Key: []string{"1"}, Values: []mapping.Cell{{Bytes: []byte{0xff}}}}
	absent, err := examineKey(newExaminer(m, false), "t:1", row, mapping.Actual{Type: mapping.TypeNone, TTLMillis: mapping.NoExpiry})
	if err != nil || absent.Verdict != mapping.Equal || absent.HasExpected {
		t.Errorf("absent: %+v, %v", absent, err)
	}
	present, err := examineKey(newExaminer(m, false), "t:1", row, mapping.Actual{Type: mapping.TypeString, Value: []byte("{}"), TTLMillis: mapping.NoExpiry})
	if err != nil || present.Verdict != mapping.Stale || present.HasExpected || !present.HasActual {
		t.Errorf("present: %+v, %v", present, err)
	}
}

func TestExamine_HashOfNullsNeedsNoKey(t *testing.T) {
	t.Parallel()
	m := compiled(t, func(s *mapping.Spec) { s.Encoding = mapping.Hash })
	row := &mapping.Row{Key: []string{"1"}, Values: []mapping.Cell{{Null: true}}}
	got, err := examineKey(newExaminer(m, false), "t:1", row, mapping.Actual{Type: mapping.TypeNone, TTLMillis: mapping.NoExpiry})
	if err != nil || got.Verdict != mapping.Equal || got.HasExpected || got.HasActual {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestConfig_RefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	if err := Default().Validate(); err != nil {
		t.Fatal(err)
	}
	for i, change := range []func(*Config){
		func(c *Config) { c.PassesMax = 0 },
		func(c *Config) { c.PassesMax = fsm.PassesRunningMax + 1 },
		func(c *Config) { c.ChunkRowsMax = 5_001 },
		func(c *Config) { c.ChunkRowsStart = c.ChunkRowsMax + 1 },
		func(c *Config) { c.ChunkTime = 0 },
		func(c *Config) { c.CheckpointEvery = 0 },
		func(c *Config) { c.OpenMax = 0 },
		func(c *Config) { c.PartKeys = 0 },
		func(c *Config) { c.PartKeys = partKeysMax + 1 },
		func(c *Config) { c.RelayWait = 0 },
		func(c *Config) { c.ThreadsRunningMax = 0 },
		func(c *Config) { c.TargetLatencyMax = 0 },
		func(c *Config) { c.BacklogMax = 0 },
		func(c *Config) { c.KeysPerSecond = -1 },
		func(c *Config) { c.KeysPerSecond = perSecondMax + 1 },
		func(c *Config) { c.ThrottleEvery = 0 },
		func(c *Config) { c.RetryMax = c.RetryMin - 1 },
	} {
		c := Default()
		change(&c)
		if err := c.Validate(); !errors.Is(err, ErrConfig) {
			t.Errorf("%d: %v", i, err)
		}
	}
}
