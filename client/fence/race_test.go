package fence_test

import (
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/quiescehq/quiesce/client/fence"
)

const (
	writers        = 10
	writesOfEach   = 12
	isolationOfAll = "transaction_isolation" // of MySQL and of MariaDB from 11.1
	isolationOfOld = "tx_isolation"          // of MariaDB before
)

var isolations = []string{"REPEATABLE-READ", "READ-COMMITTED"}

// writing is one way to write with a token. It adds the token to history if nothing refuses it.
type writing func(token uint64) error

// Writers with different tokens write in any order, all at once. The log that they write is in the order of their commits, for each takes
// its place in it while it holds the fence.
func TestFence_NoLowerTokenWritesAfterAHigherOne(t *testing.T) {
	t.Parallel()
	for _, isolation := range isolations {
		for counting, change := range foundRows {
			t.Run(isolation+" "+counting, func(t *testing.T) {
				t.Parallel()
				s := newStore(t, change, isolated(t, isolation))
				for name, f := range map[string]fence.Fence{"row": accounts(t).Row(1).Fence, "name": names(t).Name("new")} {
					s.exec("TRUNCATE history")
					refused := s.race(func(token uint64) error {
						return f.Do(t.Context(), s.db, token, func(tx *sql.Tx) error { return s.note(tx, token) })
					})
					if wrong := s.descents(); wrong != 0 {
						t.Errorf("%s: a lower token came after a higher one %d times", name, wrong)
					}
					if refused == 0 {
						t.Errorf("%s: nobody was refused, so the test has shown nothing", name)
					}
					if last := s.number("SELECT token FROM history ORDER BY seq DESC LIMIT 1"); last != writers {
						t.Errorf("%s: token %d wrote last", name, last)
					}
				}
				if s.token() != writers || s.balance() != writers {
					t.Errorf("the row holds balance %d of token %d", s.balance(), s.token())
				}
			})
		}
	}
}

// The negative control: without a fence the same writers do write after higher tokens.
func TestFence_WithoutItLowerTokensWriteAfterHigherOnes(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.race(func(token uint64) error {
		tx, err := s.db.BeginTx(t.Context(), nil)
		if err != nil {
			return err
		}
		return errors.Join(s.note(tx, token), tx.Commit())
	})
	if s.descents() == 0 {
		t.Error("the writers are in order without a fence: the race is none")
	}
}

// One statement, without a transaction: whatever the interleaving, the value is that of the highest token.
func TestUpdate_HighestTokenStays(t *testing.T) {
	t.Parallel()
	for counting, change := range foundRows {
		t.Run(counting, func(t *testing.T) {
			t.Parallel()
			s := newStore(t, change)
			refused := s.race(func(token uint64) error {
				return accounts(t).Row(1).Update(t.Context(), s.db, token, "balance = ?", token)
			})
			if s.balance() != writers || s.token() != writers || refused == 0 {
				t.Errorf("balance %d, token %d, %d refused", s.balance(), s.token(), refused)
			}
		})
	}
}

// isolated sets the isolation level of every connection, under whichever name the server knows it.
func isolated(t *testing.T, level string) func(*mysql.Config) {
	return func(c *mysql.Config) {
		plain := c.Clone()
		db := open(t, plain.FormatDSN())
		variable := isolationOfAll
		var name, value string
		if db.QueryRowContext(t.Context(), "SHOW VARIABLES LIKE '"+isolationOfAll+"'").Scan(&name, &value) != nil {
			variable = isolationOfOld
		}
		c.Params = map[string]string{variable: "'" + level + "'"}
	}
}

// race lets all writers write at once, each in its own time, and counts the refusals.
func (s store) race(write writing) (refused int64) {
	s.Helper()
	var joined sync.WaitGroup
	var count atomic.Int64
	start := make(chan struct{})
	for token := uint64(1); token <= writers; token++ {
		joined.Go(func() {
			<-start
			for range writesOfEach {
				switch err := write(token); {
				case errors.Is(err, fence.ErrFenced):
					count.Add(1)
				case err != nil:
					s.Errorf("token %d: %v", token, err)
				}
			}
		})
	}
	close(start)
	joined.Wait()
	return count.Load()
}

// note is the work: it takes a place in the log and writes the value.
func (s store) note(tx *sql.Tx, token uint64) error {
	if _, err := tx.ExecContext(s.Context(), "INSERT INTO history (token) VALUES (?)", token); err != nil {
		return err
	}
	if _, err := tx.ExecContext(s.Context(), fmt.Sprintf("DO SLEEP(%f)", rand.Float64()/500)); err != nil {
		return err
	}
	_, err := tx.ExecContext(s.Context(), "UPDATE accounts SET balance = ? WHERE id = 1", token)
	return err
}

// descents counts the places of the log where a lower token follows a higher one.
func (s store) descents() uint64 {
	s.Helper()
	return s.number("SELECT COUNT(*) FROM history a JOIN history b ON b.seq = (SELECT MIN(seq) FROM history WHERE seq > a.seq) WHERE b.token < a.token")
}
