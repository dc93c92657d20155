package store

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/hashicorp/raft"
)

// Random histories against a plain slice, through restarts with and without Close.
func TestLogs_AgreeWithTheirObviousTwin(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, kind Kind) {
		for range 4 {
			seed := rand.Uint64()
			t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
				runTwin(t, kind, rand.New(rand.NewPCG(seed, 0)))
			})
		}
	})
}

func runTwin(t *testing.T, kind Kind, random *rand.Rand) {
	cfg := testConfig(t, t.TempDir(), kind)
	cfg.SegmentBytes = 16 << 10
	cfg.CacheBytesMax = 4 << 10
	s := openIn(t, cfg)
	var twin []*raft.Log
	next := uint64(1)
	for range 120 {
		switch op := random.IntN(10); {
		case op < 5:
			batch := randomBatch(random, next)
			noError(t, s.Logs().StoreLogs(batch))
			twin = append(twin, batch...)
			next += uint64(len(batch))
		case op < 7 && len(twin) > 1:
			n := 1 + random.IntN(len(twin)-1)
			noError(t, s.Logs().DeleteRange(twin[0].Index, twin[n-1].Index))
			twin = twin[n:]
		case op < 9 && len(twin) > 1:
			n := 1 + random.IntN(len(twin)-1)
			noError(t, s.Logs().DeleteRange(twin[n].Index, twin[len(twin)-1].Index))
			twin, next = twin[:n], twin[n].Index
		case op == 9 && len(twin) > 0 && random.IntN(2) == 0:
			noError(t, s.Logs().DeleteRange(0, 0)) // a rotation in the background would move under the copy
			cfg.Dir = crashed(t, cfg.Dir)
			s = reopen(t, s, cfg)
		case op == 9:
			s = reopen(t, s, cfg)
		}
		wantTwin(t, s, twin)
	}
}

func randomBatch(random *rand.Rand, next uint64) []*raft.Log {
	var batch []*raft.Log
	for i := range 1 + random.IntN(5) {
		data := make([]byte, random.IntN(2048))
		for j := range data {
			data[j] = byte(random.Uint32())
		}
		batch = append(batch, &raft.Log{Index: next + uint64(i), Term: 1, Data: data})
	}
	return batch
}

func wantTwin(t *testing.T, s *Stores, twin []*raft.Log) {
	t.Helper()
	if len(twin) == 0 {
		wantBounds(t, s, 0, 0)
		return
	}
	wantBounds(t, s, twin[0].Index, twin[len(twin)-1].Index)
	for _, want := range twin {
		var got raft.Log
		noError(t, s.Logs().GetLog(want.Index, &got))
		if got.Index != want.Index || string(got.Data) != string(want.Data) {
			t.Fatalf("entry %d differs from what was stored", want.Index)
		}
	}
}
