package rediscache

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

func expectOver(t testing.TB, err, class error) {
	t.Helper()
	if !errors.Is(err, ErrBatchOver) || !errors.Is(err, class) {
		t.Fatalf("error is %v, want %v with %v", err, ErrBatchOver, class)
	}
}

func TestBatch_KilledConnectionEndsIt(t *testing.T) {
	t.Parallel()
	s := ownServer(t)
	target := openTarget(t, s, nil)
	key := keyOf(t, "k")
	batch := begin(t, target)
	id, err := batch.parts[0].conn.ClientID(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	s.do(t, "CLIENT", "KILL", "ID", id)

	outcomes, err := batch.Apply(t.Context(), []Guarded{set(key, 1, "v")})
	expectOver(t, err, ErrUnreachable)
	expectOutcome(t, outcomes, OutcomeUnknown)
	_, err = batch.Apply(t.Context(), []Guarded{set(key, 2, "v")})
	expectOver(t, err, ErrUnreachable)
	expectOver(t, batch.Invalidate(t.Context(), pair(key)), ErrUnreachable)
	if s.exists(t, key) || s.exists(t, guardOf(key)) {
		t.Fatal("the batch went on over another connection")
	}
	batch.Close()
	expectOutcome(t, apply(t, begin(t, target), set(key, 3, "v")), OutcomeApplied)
}

// The negative control of the test above: the same client, used without a Batch, goes on over a new connection and says nothing.
func TestBatch_PooledClientWouldGoOnOverAnotherConnection(t *testing.T) {
	t.Parallel()
	s := ownServer(t)
	target := openTarget(t, s, nil)
	before, err := target.only().client.ClientID(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	s.do(t, "CLIENT", "KILL", "ID", before)
	after, err := target.only().client.ClientID(t.Context()).Result()
	if err != nil || after == before {
		t.Fatalf("connection %d, then %d, %v", before, after, err)
	}
}

func TestBatch_ServerRestartEndsIt(t *testing.T) {
	t.Parallel()
	s := ownServer(t)
	target := openTarget(t, s, nil)
	key := keyOf(t, "k")
	batch := begin(t, target)
	first := batch.Identity()
	s.kill()
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	_, err := batch.Apply(t.Context(), []Guarded{set(key, 1, "v")})
	expectOver(t, err, ErrUnreachable)
	if s.exists(t, key) {
		t.Fatal("written to another life of the server")
	}
	batch.Close()
	if second := begin(t, target).Identity(); second.Servers[0].RunID == first.Servers[0].RunID || first.Servers[0].RunID == "" {
		t.Fatalf("run id %q, after the restart %q", first.Servers[0].RunID, second.Servers[0].RunID)
	}
}

func TestBatch_CloseReturnsASoundConnection(t *testing.T) {
	t.Parallel()
	target := openTarget(t, shared, nil)
	for range 2 * poolConnsMax {
		batch := begin(t, target)
		apply(t, batch, set(keyOf(t, "k"), 1, "v"))
		batch.Close()
		batch.Close()
		if _, err := batch.Apply(t.Context(), []Guarded{set(keyOf(t, "k"), 2, "v")}); !errors.Is(err, ErrBatchOver) {
			t.Fatalf("apply after close: %v", err)
		}
	}
	if stats := target.only().client.PoolStats(); stats.TotalConns != 1 {
		t.Fatalf("%d connections for batches in a row", stats.TotalConns)
	}
}

func TestBegin_ExhaustedPoolSnoozes(t *testing.T) {
	t.Parallel()
	target := openTarget(t, shared, nil)
	for range poolConnsMax {
		begin(t, target)
	}
	if _, err := target.Begin(t.Context(), nil); !errors.Is(err, ErrSnooze) {
		t.Fatal(err)
	}
}

func TestApply_CancelledContextEndsTheBatchWithoutBlamingTheServer(t *testing.T) {
	t.Parallel()
	target := openTarget(t, shared, nil)
	key := keyOf(t, "k")
	batch := begin(t, target)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := batch.Apply(ctx, []Guarded{set(key, 1, "v")})
	expectOver(t, err, context.Canceled)
	if errors.Is(err, ErrUnreachable) || shared.exists(t, key) {
		t.Fatalf("error %v", err)
	}
}

func TestBegin_NothingListensIsUnreachable(t *testing.T) {
	t.Parallel()
	s := ownServer(t)
	target := openTarget(t, s, nil)
	s.kill()
	started := time.Now()
	if _, err := target.Begin(t.Context(), nil); !errors.Is(err, ErrUnreachable) {
		t.Fatal(err)
	}
	if _, err := target.Read(t.Context(), []KeyRequest{{Key: "k", Type: "string"}}); !errors.Is(err, ErrUnreachable) {
		t.Fatal(err)
	}
	if _, err := target.Identity(t.Context()); !errors.Is(err, ErrUnreachable) {
		t.Fatal(err)
	}
	if took := time.Since(started); took > dialTimeout {
		t.Fatalf("three refused dials took %v: something retries", took)
	}
}

// The client's pool answers from memory after as many refused dials as it has connections, and dials in the background.
func TestBegin_ReachesAServerThatComesBack(t *testing.T) {
	t.Parallel()
	s := ownServer(t)
	target := openTarget(t, s, nil)
	begin(t, target).Close()
	s.kill()
	for range 2 * poolConnsMax {
		if _, err := target.Begin(t.Context(), nil); !errors.Is(err, ErrUnreachable) {
			t.Fatal(err)
		}
	}
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "reachable", func() bool {
		batch, err := target.Begin(t.Context(), nil)
		if err != nil {
			return false
		}
		batch.Close()
		return true
	})
}

// A stopped server keeps the packet in its socket and runs it when it wakes, long after the sender gave up.
func TestApply_LatePacketIsRefusedByTheDeadline(t *testing.T) {
	t.Parallel()
	const short, long = 150 * time.Millisecond, 30 * time.Second
	for name, test := range map[string]struct {
		deadline time.Duration
		written  bool
	}{"deadline": {short, false}, "negative control: a deadline that has not passed": {long, true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := ownServer(t)
			target := openTarget(t, s, func(c *Config) { c.Deadline, c.GuardTTL = test.deadline, 2*long*guardPerDeadline })
			key := "k"
			apply(t, begin(t, target), set("warm", 1, "loads the script"))
			batch := begin(t, target)
			s.signal(t, syscall.SIGSTOP)
			ctx, cancel := context.WithTimeout(t.Context(), 2*short)
			defer cancel()
			started := time.Now()
			outcomes, err := batch.Apply(ctx, []Guarded{set(key, 1, "late")})
			expectOver(t, err, context.DeadlineExceeded)
			if took := time.Since(started); took >= readTimeout {
				t.Fatalf("the caller's deadline was ignored for %v", took)
			}
			expectOutcome(t, outcomes, OutcomeUnknown)
			s.signal(t, syscall.SIGCONT)
			eventually(t, "the late call was run", func() bool {
				return strings.Contains(s.do(t, "INFO", "commandstats").(string), "cmdstat_evalsha:calls=3")
			})
			if got := s.exists(t, key); got != test.written {
				t.Fatalf("written: %v, want %v", got, test.written)
			}
		})
	}
}

func TestApply_ForgottenScriptIsLoadedAgainOnTheSameConnection(t *testing.T) {
	t.Parallel()
	s := ownServer(t)
	target := openTarget(t, s, nil)
	batch := begin(t, target)
	for round := range uint64(3) {
		s.do(t, "SCRIPT", "FLUSH")
		var writes []Guarded
		for i := range 3 * scriptKeysMax {
			writes = append(writes, set(keyOf(t, strconv.Itoa(i)), round+1, "v"))
		}
		for i, outcome := range apply(t, batch, writes...) {
			if outcome != OutcomeApplied {
				t.Fatalf("round %d, key %d: %v", round, i, outcome)
			}
		}
		s.do(t, "SCRIPT", "FLUSH")
		if err := batch.Invalidate(t.Context(), pair("another")); err != nil {
			t.Fatal(err)
		}
	}
}

func TestApply_ScriptsFlushedAllTheTimeSnoozeAtWorst(t *testing.T) {
	t.Parallel()
	s := ownServer(t)
	target := openTarget(t, s, nil)
	ctx, cancel := context.WithCancel(t.Context())
	var group errgroup.Group
	group.Go(func() error {
		for ctx.Err() == nil {
			if err := s.control.ScriptFlush(t.Context()).Err(); err != nil {
				return err
			}
		}
		return nil
	})
	var writes []Guarded
	for i := range batchKeysMax {
		writes = append(writes, set(keyOf(t, strconv.Itoa(i)), 1, "v"))
	}
	for range 30 {
		batch := begin(t, target)
		if _, err := batch.Apply(t.Context(), writes); err != nil {
			expectOver(t, err, ErrSnooze)
		}
		batch.Close()
	}
	cancel()
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

func TestApply_RepliesReadBeforeTheConnectionBrokeAreKept(t *testing.T) {
	t.Parallel()
	apply(t, begin(t, openTarget(t, shared, nil)), set(keyOf(t, "warm"), 1, "loads the script"))
	address, cutAfter := cuttingProxy(t, shared.addr)
	target, err := Open(Config{Name: "cache", Addr: address})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = target.Close() }()
	batch := begin(t, target)
	var writes []Guarded
	for i := range 3 * scriptKeysMax {
		writes = append(writes, set(keyOf(t, strconv.Itoa(i)), 1, "v"))
	}
	oneReply := len("*100\r\n") + scriptKeysMax*len(":1\r\n")
	cutAfter <- oneReply + oneReply/2
	outcomes, err := batch.Apply(t.Context(), writes)
	expectOver(t, err, ErrUnreachable)
	for i, outcome := range outcomes {
		want := OutcomeApplied
		if i >= scriptKeysMax {
			want = OutcomeUnknown
		}
		if outcome != want {
			t.Fatalf("key %d: %v, want %v", i, outcome, want)
		}
	}
}

// cuttingProxy forwards one connection to addr. Once a number was sent to cutAfter, it forwards that many more bytes of replies and closes.
func cuttingProxy(t testing.TB, addr string) (address string, cutAfter chan<- int) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	limits := make(chan int, 1)
	var group errgroup.Group
	t.Cleanup(func() {
		_ = listener.Close()
		_ = group.Wait()
	})
	group.Go(func() error {
		client, err := listener.Accept()
		if err != nil {
			return err
		}
		server, err := net.Dial("tcp", addr)
		if err != nil {
			return errors.Join(err, client.Close())
		}
		group.Go(func() error {
			_, err := io.Copy(server, client)
			return errors.Join(err, server.Close(), client.Close())
		})
		// A full close would reset the connection, and with it what the client has not read yet.
		return errors.Join(forwardReplies(client, server, limits), client.(*net.TCPConn).CloseWrite())
	})
	return listener.Addr().String(), limits
}

func forwardReplies(client io.Writer, server io.Reader, limits <-chan int) error {
	buffer := make([]byte, 4096)
	left := -1
	for left != 0 {
		n, err := server.Read(buffer)
		if err != nil {
			return err
		}
		if left < 0 {
			select {
			case left = <-limits:
			default:
			}
		}
		if left >= 0 {
			n = min(n, left)
			left -= n
		}
		if _, err := client.Write(buffer[:n]); err != nil {
			return err
		}
	}
	return nil
}
