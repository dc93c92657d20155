package fence_test

import (
	"context"
	"database/sql"
	"errors"
	"net"
	"testing"

	"github.com/quiescehq/quiesce/client/fence"
	"github.com/quiescehq/quiesce/cluster_test/harness"
	"github.com/quiescehq/quiesce/cluster_test/services"
)

func TestFence_UnreachableServerIsTheDriversError(t *testing.T) {
	t.Parallel()
	db := open(t, "nobody@tcp("+harness.FreeAddr(t)+")/none")
	for what, err := range map[string]error{
		"Do":     accounts(t).Row(1).Do(t.Context(), db, 1, nil),
		"name":   names(t).Name("a").Do(t.Context(), db, 1, nil),
		"Update": accounts(t).Row(1).Update(t.Context(), db, 1, "balance = 1"),
	} {
		var refused *net.OpError
		if !errors.As(err, &refused) || errors.Is(err, fence.ErrCommitUnknown) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestDo_ErrorOrPanicOfTheWorkRollsBack(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	wrong := errors.New("wrong")
	for _, f := range []fence.Fence{accounts(t).Row(1).Fence, names(t).Name("a")} {
		err := f.Do(t.Context(), s.db, 5, func(tx *sql.Tx) error { return errors.Join(deposit(t, 1)(tx), wrong) })
		if !errors.Is(err, wrong) {
			t.Errorf("got %v", err)
		}
		func() {
			defer func() { _ = recover() }()
			_ = f.Do(t.Context(), s.db, 6, func(tx *sql.Tx) error { panic(deposit(t, 1)(tx)) })
		}()
		ctx, cancel := context.WithCancel(t.Context())
		err = f.Do(ctx, s.db, 7, func(tx *sql.Tx) error {
			defer cancel()
			return deposit(t, 1)(tx)
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled before the commit: %v", err)
		}
		if err := f.Do(t.Context(), s.db, 1, nil); err != nil {
			t.Errorf("a fence was advanced by what was rolled back: %v", err)
		}
	}
	if s.balance() != 0 || s.db.Stats().InUse != 0 {
		t.Errorf("balance %d, %d connections in use", s.balance(), s.db.Stats().InUse)
	}
}

// The server is killed at each step of a transaction. What was committed before stays, and nothing else comes to be.
func TestDo_ServerThatDiesChangesNothing(t *testing.T) {
	t.Parallel()
	pair := services.Own(t)
	s := store{T: t, db: open(t, pair.MySQLDSN)}
	s.create()
	row := accounts(t).Row(1)
	if err := row.Do(t.Context(), s.db, 3, deposit(t, 1)); err != nil {
		t.Fatal(err)
	}
	unchanged := func(after string) {
		t.Helper()
		pair.StartMySQL()
		if s.balance() != 1 || s.token() != 3 {
			t.Errorf("after %s: balance %d, token %d", after, s.balance(), s.token())
		}
	}
	err := row.Do(t.Context(), s.db, 4, func(tx *sql.Tx) error {
		err := deposit(t, 10)(tx)
		pair.KillMySQL()
		return errors.Join(err, deposit(t, 10)(tx))
	})
	if err == nil || errors.Is(err, fence.ErrCommitUnknown) || errors.Is(err, fence.ErrFenced) {
		t.Errorf("killed in the work: %v", err)
	}
	unchanged("a death in the work")
	err = row.Do(t.Context(), s.db, 4, func(tx *sql.Tx) error {
		defer pair.KillMySQL()
		return deposit(t, 10)(tx)
	})
	if !errors.Is(err, fence.ErrCommitUnknown) {
		t.Errorf("killed before the commit: %v", err)
	}
	unchanged("a death before the commit")
	if err := row.Do(t.Context(), s.db, 2, nil); !errors.Is(err, fence.ErrFenced) {
		t.Errorf("the fence did not survive: %v", err)
	}
}
