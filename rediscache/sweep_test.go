package rediscache

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func beginSweep(t testing.TB, target *Target) *Sweep {
	t.Helper()
	sweep, err := target.BeginSweep(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sweep.Close)
	return sweep
}

// sweepAll removes everything that matches.
func sweepAll(t testing.TB, sweep *Sweep, pattern string) (removed uint64) {
	t.Helper()
	for cursor := uint64(0); ; {
		part, err := sweep.Scan(t.Context(), pattern, cursor)
		if err != nil {
			t.Fatal(err)
		}
		n, err := sweep.Unlink(t.Context(), part.Keys)
		if err != nil {
			t.Fatal(err)
		}
		removed += n
		if cursor = part.Cursor; cursor == 0 {
			return removed
		}
	}
}

func (s *server) fill(t testing.TB, keys ...string) {
	t.Helper()
	pipe := s.control.Pipeline()
	for _, key := range keys {
		pipe.Set(context.Background(), key, "v", 0)
	}
	if _, err := pipe.Exec(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func TestSweep_RemovesWhatMatchesAndNothingThatLooksAlike(t *testing.T) {
	t.Parallel()
	s := ownServer(t)
	sweep := beginSweep(t, openTarget(t, s, nil))
	for pattern, keys := range map[string]struct{ match, alike []string }{
		"shop:*":          {[]string{"shop:1", "shop:", "shop:a*b", "shop:\x00\xff\n"}, []string{"shop", "Shop:1", "xshop:1", "sho", "shop;1"}},
		`lit\*eral:?`:     {[]string{"lit*eral:1"}, []string{"litXeral:1", `lit\*eral:1`, "lit*eral:12", "lit*eral:"}},
		"br[ab]:*":        {[]string{"bra:1", "brb:"}, []string{"brc:1", "br[ab]:1", "br:1"}},
		"exact:key":       {[]string{"exact:key"}, []string{"exact:key2", "exact:ke"}},
		`qu\?ote[^0-9]\[`: {[]string{"qu?otex["}, []string{"qu?ote1[", "quXotex[", "qu?otex"}},
	} {
		s.fill(t, keys.match...)
		s.fill(t, keys.alike...)
		if got := sweepAll(t, sweep, pattern); got != uint64(len(keys.match)) {
			t.Errorf("%s: %d removed, want %d", pattern, got, len(keys.match))
		}
		for _, key := range keys.match {
			if s.exists(t, key) {
				t.Errorf("%s: %q is still there", pattern, key)
			}
		}
		for _, key := range keys.alike {
			if !s.exists(t, key) {
				t.Errorf("%s: %q is gone", pattern, key)
			}
		}
	}
}

func TestSweep_FindsEveryKeyAmongManyOthersInBoundedParts(t *testing.T) {
	t.Parallel()
	s := ownServer(t)
	target := openTarget(t, s, nil)
	var keys []string
	for i := range 30_000 {
		keys = append(keys, "other:"+strconv.Itoa(i))
		if i%100 == 0 {
			keys = append(keys, "mine:"+strconv.Itoa(i))
		}
	}
	s.fill(t, keys...)
	sweep := beginSweep(t, target)
	found, looked := map[string]bool{}, uint64(0)
	for cursor, first := uint64(0), true; first || cursor != 0; first = false {
		part, err := sweep.Scan(t.Context(), "mine:*", cursor)
		if err != nil {
			t.Fatal(err)
		}
		if part.Looked > scanCallsMax*SweepKeysMax || len(part.Keys) > 2*SweepKeysMax {
			t.Fatalf("a part of %d looked at and %d found", part.Looked, len(part.Keys))
		}
		for _, key := range part.Keys {
			found[key] = true
		}
		cursor, looked = part.Cursor, looked+part.Looked
	}
	if len(found) != 300 || looked != uint64(len(keys)) {
		t.Errorf("%d of 300 found, %d of %d looked at", len(found), looked, len(keys))
	}
	// Nothing to be found: a part ends all the same.
	if part, err := sweep.Scan(t.Context(), "none:*", 0); err != nil || part.Looked != scanCallsMax*SweepKeysMax || part.Cursor == 0 {
		t.Errorf("%+v, %v", part, err)
	}
}

func TestSweep_FaultsHaveTheirClass(t *testing.T) {
	t.Parallel()
	s := ownServer(t)
	target := openTarget(t, s, nil)
	sweep := beginSweep(t, target)
	s.do(t, "replicaof", "127.0.0.1", "1")
	if _, err := sweep.Unlink(t.Context(), []string{"a"}); !errors.Is(err, ErrNotPrimary) {
		t.Errorf("Unlink on a replica: %v", err)
	}
	if _, err := target.BeginSweep(t.Context()); !errors.Is(err, ErrNotPrimary) {
		t.Errorf("BeginSweep on a replica: %v", err)
	}
	s.do(t, "replicaof", "no", "one")
	sweep = beginSweep(t, target)
	before := sweep.Identity().Servers[0].RunID
	s.kill()
	if _, err := sweep.Scan(t.Context(), "a*", 0); !errors.Is(err, ErrUnreachable) {
		t.Errorf("Scan of a dead server: %v", err)
	}
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	if _, err := sweep.Scan(t.Context(), "a*", 0); err == nil {
		t.Error("a sweep went on in another life of its server")
	}
	if again := beginSweep(t, target); again.Identity().Servers[0].RunID == before || before == "" {
		t.Errorf("the lives %q and %q cannot be told apart", before, again.Identity().Servers[0].RunID)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := beginSweep(t, target).Scan(ctx, "a*", 0); !errors.Is(err, context.Canceled) {
		t.Errorf("Scan of a caller that gave up: %v", err)
	}
}

// A server, or what stands between, that does not heed MATCH.
func TestSweep_KeysThatTheServerShouldNotHaveGivenAreNotTaken(t *testing.T) {
	t.Parallel()
	target, err := Open(Config{Name: "cache", Addr: answering(t, "*2\r\n$1\r\n0\r\n*3\r\n$6\r\nshop:1\r\n$5\r\nother\r\n$4\r\nshop\r\n")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = target.Close() })
	part, err := beginSweep(t, target).Scan(t.Context(), "shop:*", 0)
	if err != nil || !slices.Equal(part.Keys, []string{"shop:1"}) {
		t.Errorf("%q, %v", part.Keys, err)
	}
}

// answering is a server on one connection that calls itself a primary and answers every SCAN alike.
func answering(t *testing.T, scan string) string {
	t.Helper()
	return scripted(t, map[string]string{"dbsize": ":3\r\n", "info": "$13\r\nrole:master\r\n\r\n", "scan": scan})
}

// scripted is a server on one connection that answers a command with what stands beside its name.
func scripted(t *testing.T, answers map[string]string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() { _ = listener.Close(); <-ended })
	answers["hello"] = "-ERR unknown command\r\n"
	answers["time"] = "*2\r\n$1\r\n1\r\n$1\r\n0\r\n"
	go func() {
		defer close(ended)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		for in := bufio.NewScanner(conn); in.Scan(); {
			if _, err := io.WriteString(conn, answers[strings.ToLower(in.Text())]); err != nil {
				return
			}
		}
	}()
	return listener.Addr().String()
}

func TestLiteralPrefix_EndsAtTheFirstSpecialCharacter(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]string{"": "", "ab": "ab", "ab*": "ab", "ab?c": "ab", "ab[c]": "ab", `ab\*`: "ab", "*": ""} {
		if got := LiteralPrefix(pattern); got != want {
			t.Errorf("LiteralPrefix(%q) = %q, want %q", pattern, got, want)
		}
	}
}

// BenchmarkRemove compares the ways to remove 10,000 keys: as a cleanup does it, and one by one. Its last line is their ratio.
func BenchmarkRemove(b *testing.B) {
	const count = 10_000
	s := ownServer(b)
	target := openTarget(b, s, nil)
	keys := make([]string, count)
	for i := range keys {
		keys[i] = fmt.Sprintf("bench:remove:%05d", i)
	}
	var took [2]time.Duration
	for way, remove := range []func(*Sweep) uint64{
		func(sweep *Sweep) uint64 { return sweepAll(b, sweep, "bench:remove:*") },
		func(sweep *Sweep) (removed uint64) {
			for _, key := range keys {
				n, err := sweep.conns[0].Del(b.Context(), key).Result()
				if err != nil {
					b.Fatal(err)
				}
				removed += uint64(n)
			}
			return removed
		},
	} {
		b.Run([]string{"scan and pipelined unlink", "del one by one"}[way], func(b *testing.B) {
			sweep, err := target.BeginSweep(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			defer sweep.Close()
			b.ResetTimer()
			for range b.N {
				b.StopTimer()
				for some := range slices.Chunk(keys, 1_000) {
					s.fill(b, some...)
				}
				b.StartTimer()
				if removed := remove(sweep); removed != count {
					b.Fatalf("%d removed", removed)
				}
			}
			took[way] = b.Elapsed() / time.Duration(b.N)
			b.ReportMetric(count/took[way].Seconds(), "keys/s")
			if way == 1 {
				b.ReportMetric(took[1].Seconds()/took[0].Seconds(), "times-slower")
			}
		})
	}
}
