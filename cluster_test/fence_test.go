package cluster_test

import (
	"bufio"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/quiescehq/quiesce/client/fence"
	"github.com/quiescehq/quiesce/cluster_test/harness"
	"github.com/quiescehq/quiesce/cluster_test/services"
)

const (
	newsWithin = 60 * time.Second
	ofFirst    = 10 // what each holder adds to the balance
	ofSecond   = 100
)

// A process takes a lock, reads a row and a key, and is stopped past its lease. Another one gets the lock and does the same job. The first is resumed
// and goes on with what it was about to do: write.
func TestFence_StoppedHolder(t *testing.T) {
	c := harness.Start(t, harness.Options{})
	for when, story := range map[string]func(*contest) result{"after": (*contest).wakeAfter, "before": (*contest).wakeBefore} {
		t.Run("is refused by the guards "+when+" its successor has written", func(t *testing.T) {
			t.Parallel()
			ended := story(newContest(t, c, writesGuarded))
			if ended.zombie.MySQL != outcomeFenced || ended.zombie.Redis != outcomeFenced {
				t.Errorf("its writes ended: MySQL %q, Redis %q", ended.zombie.MySQL, ended.zombie.Redis)
			}
			if ended.row != ofSecond || ended.cached != ofSecond {
				t.Errorf("the row holds %d and the key %d, not the %d of the second holder", ended.row, ended.cached, ofSecond)
			}
		})
	}
	// The negative control of the rule "read after the fence": a guard that has not seen the new token yet lets the old one pass, and the
	// new holder overwrites what it has not read.
	t.Run("passes a guard that its successor has not advanced", func(t *testing.T) {
		t.Parallel()
		ended := newContest(t, c, writesLate).wakeBefore()
		if ended.zombie.MySQL != outcomeWritten || ended.zombie.Redis != outcomeWritten {
			t.Errorf("its writes ended: MySQL %q, Redis %q", ended.zombie.MySQL, ended.zombie.Redis)
		}
		if ended.row != ofSecond || ended.cached != ofSecond {
			t.Errorf("the row holds %d and the key %d: the rule has lost its reason", ended.row, ended.cached)
		}
	})
	// The negative control: the lock alone does not exclude, whatever the lock service.
	t.Run("without guards overwrites its successor", func(t *testing.T) {
		t.Parallel()
		ended := newContest(t, c, writesBare).wakeAfter()
		if ended.zombie.MySQL != outcomeWritten || ended.zombie.Redis != outcomeWritten {
			t.Errorf("its writes ended: MySQL %q, Redis %q", ended.zombie.MySQL, ended.zombie.Redis)
		}
		if ended.row != ofFirst || ended.cached != ofFirst {
			t.Errorf("the row holds %d and the key %d: no update was lost, so the guards have nothing to show", ended.row, ended.cached)
		}
	})
	t.Run("that looks at its lock sees the loss at once", func(t *testing.T) {
		t.Parallel()
		ended := newContest(t, c, writesHeld).wakeAfter()
		if ended.zombie.LostErr == "" || !ended.zombie.Done {
			t.Errorf("Err said %q, Done closed: %v", ended.zombie.LostErr, ended.zombie.Done)
		}
		if ended.zombie.MySQL != outcomeSkipped || ended.row != ofSecond || ended.cached != ofSecond {
			t.Errorf("its write ended %q, the row holds %d and the key %d", ended.zombie.MySQL, ended.row, ended.cached)
		}
	})
}

// contest is a row and a key that two holders of one lock write.
type contest struct {
	*testing.T
	db    *sql.DB
	cache *redis.Client
	holding
}

// result is what came of it.
type result struct {
	zombie      news
	row, cached int64
}

func newContest(t *testing.T, c *harness.Cluster, writes string) *contest {
	t.Helper()
	place := services.Require(t)
	db, err := sql.Open("mysql", place.MySQLDSN)
	if err != nil {
		t.Fatal(err)
	}
	k := &contest{T: t, db: db, cache: redis.NewClient(&redis.Options{Addr: place.RedisAddr}), holding: holding{Addrs: c.Addrs(), DSN: place.MySQLDSN,
		Redis: place.RedisAddr, Key: place.Prefix + "balance", Lock: place.Prefix, Writes: writes}}
	t.Cleanup(func() { _ = k.db.Close(); _ = k.cache.Close() })
	for _, statement := range []string{
		"CREATE TABLE accounts (id BIGINT PRIMARY KEY, balance BIGINT NOT NULL, " + fence.ColumnSchema + ") ENGINE=InnoDB",
		"INSERT INTO accounts (id, balance) VALUES (1, 0)",
	} {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.cache.Set(t.Context(), k.Key, 0, 0).Err(); err != nil {
		t.Fatal(err)
	}
	return k
}

// wakeAfter resumes the first holder when the second one has written.
func (k *contest) wakeAfter() (ended result) {
	k.Helper()
	first, second := k.change()
	second.finish()
	first.signal(syscall.SIGCONT)
	ended.zombie = first.await()
	return k.look(ended)
}

// wakeBefore resumes it when the second one has read and not yet written.
func (k *contest) wakeBefore() (ended result) {
	k.Helper()
	first, second := k.change()
	first.signal(syscall.SIGCONT)
	ended.zombie = first.await()
	second.finish()
	return k.look(ended)
}

// change lets a holder read, stops it, and waits until another one has the lock and has read the same.
func (k *contest) change() (first, second *holder) {
	k.Helper()
	first = k.start(ofFirst)
	before := first.await()
	first.stop()
	first.write() // it will find this the moment it is resumed
	stopped := time.Now()
	second = k.start(ofSecond)
	taken := second.await()
	k.Logf("token %d was taken from token %d after %s", taken.Token, before.Token, time.Since(stopped).Round(time.Millisecond))
	if before.Row != 0 || before.Cached != 0 || taken.Row != 0 || taken.Cached != 0 || taken.Token <= before.Token {
		k.Fatalf("the holders began with %+v and %+v", before, taken)
	}
	return first, second
}

// look adds what the row and the key hold in the end.
func (k *contest) look(ended result) result {
	k.Helper()
	if err := k.db.QueryRowContext(k.Context(), balanceOnly).Scan(&ended.row); err != nil {
		k.Fatal(err)
	}
	var err error
	if ended.cached, err = k.cache.Get(k.Context(), k.Key).Int64(); err != nil {
		k.Fatal(err)
	}
	return ended
}

// holder is a process that plays a holding.
type holder struct {
	*testing.T
	command *exec.Cmd
	in      io.WriteCloser
	out     *os.File
	lines   *bufio.Scanner
}

func (k *contest) start(add int64) *holder {
	k.Helper()
	k.Add = add
	text, err := json.Marshal(k.holding)
	if err != nil {
		k.Fatal(err)
	}
	executable, err := os.Executable()
	if err != nil {
		k.Fatal(err)
	}
	out, into, err := os.Pipe()
	if err != nil {
		k.Fatal(err)
	}
	defer func() { _ = into.Close() }() // the process has its own
	h := &holder{T: k.T, command: exec.Command(executable), out: out, lines: bufio.NewScanner(out)}
	h.command.Env = append(os.Environ(), envHolder+"="+string(text))
	h.command.Stdout, h.command.Stderr = into, os.Stderr
	if h.in, err = h.command.StdinPipe(); err != nil {
		k.Fatal(err)
	}
	if err := h.command.Start(); err != nil {
		k.Fatal(err)
	}
	k.Cleanup(func() {
		_ = h.command.Process.Kill()
		_ = h.command.Wait() // it was killed, or has ended
		_ = out.Close()
	})
	return h
}

// await waits for the next news.
func (h *holder) await() (n news) {
	h.Helper()
	if err := h.out.SetReadDeadline(time.Now().Add(newsWithin)); err != nil {
		h.Fatal(err)
	}
	if !h.lines.Scan() {
		h.Fatalf("the holder said nothing: %v", h.lines.Err())
	}
	if err := json.Unmarshal(h.lines.Bytes(), &n); err != nil {
		h.Fatalf("%s: %v", h.lines.Text(), err)
	}
	return n
}

// write lets the holder go on.
func (h *holder) write() {
	h.Helper()
	if _, err := fmt.Fprintln(h.in); err != nil {
		h.Fatal(err)
	}
}

// finish lets a holder write that nothing may refuse.
func (h *holder) finish() {
	h.Helper()
	h.write()
	if wrote := h.await(); wrote.MySQL != outcomeWritten || wrote.Redis != outcomeWritten {
		h.Fatalf("the rightful holder: %+v", wrote)
	}
}

// stop returns when the system has stopped the process.
func (h *holder) stop() {
	h.Helper()
	h.signal(syscall.SIGSTOP)
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(h.command.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		h.Fatalf("the holder did not stop: %v, %v", status, err)
	}
}

func (h *holder) signal(s syscall.Signal) {
	h.Helper()
	if err := h.command.Process.Signal(s); err != nil {
		h.Fatal(err)
	}
}
