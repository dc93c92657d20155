package fence_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/quiescehq/quiesce/client/fence"
)

// foundRows are the two ways in which a server counts.
var foundRows = map[string]func(*mysql.Config){
	"counts changed rows": func(c *mysql.Config) { c.ClientFoundRows = false },
	"counts matched rows": func(c *mysql.Config) { c.ClientFoundRows = true },
	"arguments in text":   func(c *mysql.Config) { c.InterpolateParams = true },
}

func TestAdvance_SameTokenMayWriteAgain(t *testing.T) {
	t.Parallel()
	for name, change := range foundRows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t, change)
			for _, f := range []fence.Fence{accounts(t).Row(1).Fence, names(t).Name("a")} {
				for _, token := range []uint64{7, 7, 7, 9, 9} {
					if err := f.Do(t.Context(), s.db, token, deposit(t, 1)); err != nil {
						t.Errorf("token %d: %v", token, err)
					}
				}
			}
			if got := s.balance(); got != 10 {
				t.Errorf("%d of 10 writes were done", got)
			}
			if got := s.token(); got != 9 {
				t.Errorf("the row holds token %d", got)
			}
		})
	}
}

func TestAdvance_LowerTokenIsRefusedAndNothingIsDone(t *testing.T) {
	t.Parallel()
	for name, change := range foundRows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t, change)
			for _, f := range []fence.Fence{accounts(t).Row(1).Fence, names(t).Name("a")} {
				if err := f.Do(t.Context(), s.db, 8, nil); err != nil {
					t.Fatal(err)
				}
				called := false
				err := f.Do(t.Context(), s.db, 7, func(*sql.Tx) error { called = true; return nil })
				var refused *fence.FencedError
				if !errors.Is(err, fence.ErrFenced) || !errors.As(err, &refused) || refused.Token != 7 || refused.Seen != 8 {
					t.Errorf("got %v", err)
				}
				if called {
					t.Error("the work was done")
				}
			}
			if got := s.token(); got != 8 {
				t.Errorf("the row holds token %d", got)
			}
		})
	}
}

func TestFence_WhatCannotBeIsRefusedBeforeTheServerIsAsked(t *testing.T) {
	t.Parallel()
	db := open(t, "nobody@tcp(127.0.0.1:1)/none") // asking it would be another error
	row := accounts(t).Row(1)
	for what, c := range map[string]struct {
		err  error
		want error
	}{
		"token 0":         {row.Do(t.Context(), db, 0, nil), fence.ErrToken},
		"token 2^53":      {row.Do(t.Context(), db, fence.TokenMax+1, nil), fence.ErrToken},
		"token 0, Update": {row.Update(t.Context(), db, 0, "balance = 1"), fence.ErrToken},
		"token 0, inside": {row.Advance(t.Context(), nil, 0), fence.ErrToken},
		"nothing to set":  {row.Update(t.Context(), db, 1, " "), fence.ErrStatement},
		"no key":          {accounts(t).Row().Do(t.Context(), db, 1, nil), fence.ErrKey},
		"two keys":        {accounts(t).Row(1, 2).Do(t.Context(), db, 1, nil), fence.ErrKey},
		"NULL":            {accounts(t).Row(nil).Do(t.Context(), db, 1, nil), fence.ErrKey},
		"no name":         {names(t).Name("").Do(t.Context(), db, 1, nil), fence.ErrKey},
		"long name":       {names(t).Name(strings.Repeat("x", fence.NameBytesMax+1)).Do(t.Context(), db, 1, nil), fence.ErrKey},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v", what, c.err)
		}
	}
}

func TestAdvance_LargestTokenAndLongestNamePass(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for _, f := range []fence.Fence{accounts(t).Row(1).Fence, names(t).Name(strings.Repeat("x", fence.NameBytesMax))} {
		if err := f.Do(t.Context(), s.db, fence.TokenMax, nil); err != nil {
			t.Error(err)
		}
		if err := f.Do(t.Context(), s.db, fence.TokenMax-1, nil); !errors.Is(err, fence.ErrFenced) {
			t.Errorf("got %v", err)
		}
	}
}

func TestAdvance_MissingRowIsSaidAndSoIsAKeyOfSeveral(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.exec("INSERT INTO accounts (id) VALUES (2)")
	if err := accounts(t).Row(99).Do(t.Context(), s.db, 5, nil); !errors.Is(err, fence.ErrNoRow) {
		t.Errorf("a missing row: %v", err)
	}
	if err := accounts(t).Row(99).Update(t.Context(), s.db, 5, "balance = 1"); !errors.Is(err, fence.ErrNoRow) {
		t.Errorf("Update of a missing row: %v", err)
	}
	byBalance, err := fence.NewTable(fence.Spec{Table: "accounts", Key: []string{"balance"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := byBalance.Row(0).Do(t.Context(), s.db, 5, nil); !errors.Is(err, fence.ErrManyRows) {
		t.Errorf("a key of two rows: %v", err)
	}
	if got := s.number("SELECT MAX(fence_token) FROM accounts"); got != 0 {
		t.Errorf("a refused fence left token %d", got)
	}
	if err := byBalance.Row(0).Update(t.Context(), s.db, 5, "balance = 0"); !errors.Is(err, fence.ErrManyRows) {
		t.Errorf("Update by a key of two rows: %v", err)
	}
	if err := byBalance.Row(0).Do(t.Context(), s.db, 5, nil); !errors.Is(err, fence.ErrManyRows) {
		t.Errorf("a key of two rows that hold the token: %v", err)
	}
}

func TestNames_AreBytesAndIndependent(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for i, name := range []string{"a", "A", "a ", "ä", "a\x00", "é", "e\u0301"} {
		if err := names(t).Name(name).Do(t.Context(), s.db, uint64(100-i), nil); err != nil {
			t.Errorf("%q is taken for another: %v", name, err)
		}
	}
}

func TestUpdate_WritesUnlessAHigherTokenWasSeen(t *testing.T) {
	t.Parallel()
	for name, change := range foundRows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t, change)
			row := accounts(t).Row(1)
			for _, step := range []struct {
				token, balance uint64
				want           error
			}{{5, 10, nil}, {5, 20, nil}, {5, 20, nil}, {4, 30, fence.ErrFenced}, {6, 20, nil}, {5, 20, fence.ErrFenced}} {
				before := step
				before.balance, before.token = s.balance(), s.token()
				if err := row.Update(t.Context(), s.db, step.token, "balance = ?", step.balance); !errors.Is(err, step.want) {
					t.Errorf("token %d, balance %d: %v", step.token, step.balance, err)
				}
				want := step
				if step.want != nil {
					want = before
				}
				if s.balance() != want.balance || s.token() != want.token {
					t.Errorf("token %d, balance %d: the row holds %d of token %d", step.token, step.balance, s.balance(), s.token())
				}
			}
		})
	}
}

// A transaction that has looked at the table before sees it as it was. The fence must not.
func TestAdvance_SeesATokenThatItsTransactionCannot(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for what, f := range map[string]fence.Fence{"row": accounts(t).Row(1).Fence, "name": names(t).Name("a")} {
		if err := f.Do(t.Context(), s.db, 5, nil); err != nil {
			t.Fatal(err)
		}
		tx := s.begin()
		var balance uint64
		if err := tx.QueryRowContext(t.Context(), "SELECT balance FROM accounts WHERE id = 1").Scan(&balance); err != nil {
			t.Fatal(err)
		}
		if err := f.Do(t.Context(), s.db, 9, nil); err != nil {
			t.Fatal(err)
		}
		if err := f.Advance(t.Context(), tx, 5); !errors.Is(err, fence.ErrFenced) && !conflict(err) {
			t.Errorf("%s: %v", what, err)
		}
		if err := tx.Rollback(); err != nil {
			t.Error(err)
		}
	}
}

// Whether the token was raised or there already: until the transaction ends, it is alone. READ COMMITTED is the harder case, for there an
// UPDATE that finds nothing to change keeps no lock.
func TestAdvance_KeepsOthersOutUntilTheCommit(t *testing.T) {
	t.Parallel()
	for _, isolation := range isolations {
		s := newStore(t, isolated(t, isolation))
		for what, f := range map[string]fence.Fence{"row": accounts(t).Row(1).Fence, "name": names(t).Name("a")} {
			for _, state := range []string{"raised", "there already"} {
				tx := s.begin()
				if err := f.Advance(t.Context(), tx, 5); err != nil {
					t.Fatal(err)
				}
				impatient := within(t, 200*time.Millisecond)
				if err := f.Do(impatient, s.db, 6, nil); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%s, %s, token %s: another got in: %v", isolation, what, state, err)
				}
				if err := tx.Commit(); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

// conflict tells whether a server refuses to change what changed since the transaction looked (innodb_snapshot_isolation).
func conflict(err error) bool {
	var refused *mysql.MySQLError
	return errors.As(err, &refused) && refused.Number == 1020
}

// An older holder that already wrote, but did not commit before it lost the lock, may still commit. The next one must see it.
func TestAdvance_ReadsWhatAnOlderHolderCommittedLate(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	old := s.begin()
	if err := errors.Join(accounts(t).Row(1).Advance(t.Context(), old, 1), deposit(t, 100)(old)); err != nil {
		t.Fatal(err)
	}
	// As long as it has not, nobody gets past it.
	impatient := within(t, 200*time.Millisecond)
	if err := accounts(t).Row(1).Do(impatient, s.db, 2, deposit(t, 1)); err == nil || errors.Is(err, fence.ErrFenced) {
		t.Fatalf("a second holder wrote beside an open transaction: %v", err)
	}
	done := make(chan error, 1)
	var read uint64
	go func() {
		done <- accounts(t).Row(1).Do(t.Context(), s.db, 2, func(tx *sql.Tx) error {
			return tx.QueryRowContext(t.Context(), "SELECT balance FROM accounts WHERE id = 1").Scan(&read)
		})
	}()
	s.awaitWaiting()
	if err := old.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if read != 100 {
		t.Errorf("the next holder read %d", read)
	}
}

// The negative control of the rule "read after the fence": a SELECT before Advance fixes a view in which the older holder's late commit is
// missing, to the end of the transaction.
func TestAdvance_ReadBeforeItMayBeOld(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	old, next := s.begin(), s.begin()
	if err := errors.Join(names(t).Name("a").Advance(t.Context(), old, 1), deposit(t, 100)(old)); err != nil {
		t.Fatal(err)
	}
	var before, after uint64
	if err := next.QueryRowContext(t.Context(), "SELECT balance FROM accounts WHERE id = 1").Scan(&before); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- names(t).Name("a").Advance(t.Context(), next, 2) }()
	s.awaitWaiting()
	if err := old.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; conflict(err) {
		t.Skip("this server refuses to change what changed since the transaction looked")
	} else if err != nil {
		t.Fatal(err)
	}
	if err := next.QueryRowContext(t.Context(), "SELECT balance FROM accounts WHERE id = 1").Scan(&after); err != nil {
		t.Fatal(err)
	}
	if before != 0 || after != 0 || s.balance() != 100 {
		t.Errorf("read %d and %d, the row holds %d: the rule has lost its reason", before, after, s.balance())
	}
}

// awaitWaiting waits until a transaction of this test's database waits for a row.
func (s store) awaitWaiting() {
	s.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	// The server renews this view at most ten times a second, and only if nobody looked meanwhile.
	ticker := time.NewTicker(250 * time.Millisecond)
	defer ticker.Stop()
	const waiting = `SELECT COUNT(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id
		WHERE t.trx_state = 'LOCK WAIT' AND p.db = DATABASE()`
	for s.number(waiting) == 0 {
		select {
		case <-ticker.C:
		case <-deadline.C:
			s.Fatal("nobody waits for the row")
		}
	}
}

// Two transactions that use new names cross, which would be a deadlock if either had locked a gap and not its own row.
func TestNames_NewNamesDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	one, other := s.begin(), s.begin()
	for i, tx := range []*sql.Tx{one, other, one, other, one, other} {
		if err := names(t).Name(string(rune('m'+i))).Advance(within(t, 10*time.Second), tx, 5); err != nil {
			t.Fatalf("name %d: %v", i, err)
		}
	}
	if err := errors.Join(one.Commit(), other.Commit()); err != nil {
		t.Error(err)
	}
}
