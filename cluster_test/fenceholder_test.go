package cluster_test

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/quiescehq/quiesce/client"
	"github.com/quiescehq/quiesce/client/fence"
	"github.com/quiescehq/quiesce/client/redisquiesce"
)

// envHolder makes the test binary a process that holds a lock and does a job under it. Its value is a holding in JSON.
const envHolder = "QUIESCE_TEST_HOLDER"

// The ways in which a holder writes.
const (
	writesBare    = "bare"    // as if a lock excluded
	writesGuarded = "guarded" // through the guards, which it has advanced before it read
	writesLate    = "late"    // through the guards, which see its token no earlier than its write
	writesHeld    = "held"    // bare too, but it looks at its lock before
)

const (
	holderLife  = 3 * time.Minute
	doneWithin  = 10 * time.Second
	exitNoJob   = 3
	balanceOnly = "SELECT balance FROM accounts WHERE id = 1"
)

// holding says what a holder shall do: read the balance of the row and of the key, add to both, and write them back.
type holding struct {
	Addrs  []string
	DSN    string
	Redis  string
	Key    string
	Lock   string
	Writes string
	Add    int64
}

// news is a line that a holder prints: when it has read, and when it has written or was refused.
type news struct {
	Token   uint64 `json:",omitempty"`
	Row     int64  // balances as they were read
	Cached  int64
	MySQL   string // how the writes ended
	Redis   string
	LostErr string // what the lock said, if it was asked
	Done    bool
}

// How a write ended.
const (
	outcomeWritten = "written"
	outcomeFenced  = "fenced"
	outcomeSkipped = "skipped"
)

// playHolder is the process.
func playHolder(text string) int {
	var h holding
	err := json.Unmarshal([]byte(text), &h)
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), holderLife)
		defer cancel()
		err = h.run(ctx, os.Stdin, json.NewEncoder(os.Stdout))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitNoJob
	}
	return 0
}

func (h holding) run(ctx context.Context, in io.Reader, out *json.Encoder) error {
	db, err := sql.Open("mysql", h.DSN)
	if err != nil {
		return err
	}
	defer db.Close()
	cache := redis.NewClient(&redis.Options{Addr: h.Redis})
	defer cache.Close()
	c, err := client.New(client.Config{Addrs: h.Addrs})
	if err != nil {
		return err
	}
	defer c.Close()
	session, err := c.OpenSession(ctx, h.Lock, shortTTL)
	if err != nil {
		return err
	}
	lock, err := session.Lock(ctx, h.Lock)
	if err != nil {
		return err
	}
	j, err := newJob(h, db, cache, lock.Token())
	if err != nil {
		return err
	}
	if err := j.read(ctx); err != nil {
		return err
	}
	said := news{Token: lock.Token(), Row: j.row, Cached: j.cached}
	if err := out.Encode(said); err != nil {
		return err
	}
	if _, err := bufio.NewReader(in).ReadString('\n'); err != nil { // here it is stopped
		return err
	}
	if h.Writes == writesHeld && h.lost(lock, &said) {
		return out.Encode(said)
	}
	said.MySQL, said.Redis = j.write(ctx)
	return out.Encode(said)
}

// lost looks at the lock before it writes, at once and then for the end of Done.
func (h holding) lost(lock *client.Lock, said *news) bool {
	err := lock.Err()
	if err == nil {
		return false
	}
	said.LostErr, said.MySQL, said.Redis = err.Error(), outcomeSkipped, outcomeSkipped
	limit := time.NewTimer(doneWithin)
	defer limit.Stop()
	select {
	case <-lock.Done():
		said.Done = true
	case <-limit.C:
	}
	return true
}

// job is a read-modify-write of a row and a key.
type job struct {
	holding
	token  uint64
	db     *sql.DB
	cache  *redis.Client
	row    int64
	cached int64
	rows   fence.Row
	keys   *redisquiesce.Fence
}

func newJob(h holding, db *sql.DB, cache *redis.Client, token uint64) (*job, error) {
	accounts, err := fence.NewTable(fence.Spec{Table: "accounts"})
	if err != nil {
		return nil, err
	}
	return &job{holding: h, token: token, db: db, cache: cache, rows: accounts.Row(1), keys: redisquiesce.NewFence(cache)}, nil
}

func (j *job) read(ctx context.Context) error {
	if j.Writes == writesGuarded {
		if err := errors.Join(j.rows.Do(ctx, j.db, j.token, nil), j.keys.Advance(ctx, j.token, j.Key)); err != nil {
			return err
		}
	}
	if err := j.db.QueryRowContext(ctx, balanceOnly).Scan(&j.row); err != nil {
		return err
	}
	var err error
	j.cached, err = j.cache.Get(ctx, j.Key).Int64()
	return err
}

func (j *job) write(ctx context.Context) (row, key string) {
	if j.Writes == writesGuarded || j.Writes == writesLate {
		return outcome(j.rows.Update(ctx, j.db, j.token, "balance = ?", j.row+j.Add)),
			outcome(j.keys.Set(ctx, j.token, j.Key, strconv.FormatInt(j.cached+j.Add, 10), 0))
	}
	_, err := j.db.ExecContext(ctx, "UPDATE accounts SET balance = ? WHERE id = 1", j.row+j.Add)
	return outcome(err), outcome(j.cache.Set(ctx, j.Key, j.cached+j.Add, 0).Err())
}

func outcome(err error) string {
	switch {
	case err == nil:
		return outcomeWritten
	case errors.Is(err, fence.ErrFenced):
		return outcomeFenced
	}
	return err.Error()
}
