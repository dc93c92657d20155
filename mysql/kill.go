package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Seen is a transaction with its connection, as a caller that wants it ended has seen them.
type Seen struct {
	Transaction
	Process
}

// KillOutcome is what became of the wish to end a connection.
type KillOutcome string

const (
	KillDone    KillOutcome = "killed"       // the server was told; the transaction rolls back from now on
	KillOver    KillOutcome = "over"         // the transaction ended by itself, or its connection did
	KillChanged KillOutcome = "changed"      // the connection is in another transaction, or is another connection, or may be, since the reader's own was lost
	KillRolling KillOutcome = "rolling back" // it is being undone already
	KillDenied  KillOutcome = "denied"       // the account lacks CONNECTION ADMIN, and the connection is another user's
	KillUnsure  KillOutcome = "unsure"       // other readers keep INNODB_TRX from being read anew: nothing was done
)

// Kill ends the connections of transactions that were seen in a reading, if they still are what they were: it waits until INNODB_TRX can show
// another moment, proves that it does, compares, looks the connections up, and says KILL CONNECTION, all on the reader's connection by which
// they were seen: so the server is in the same life, and a thread id that is still there is still that of the same connection. It never says
// KILL QUERY, which leaves the transaction open, to be committed. The outcomes are in the order of seen; after an error those that are empty
// are unknown.
func (r *TransactionReader) Kill(ctx context.Context, reading Reading, seen []Seen) ([]KillOutcome, error) {
	outcomes := make([]KillOutcome, len(seen))
	again, err := r.prove(ctx)
	switch {
	case errors.Is(err, errFrozen):
		return fill(outcomes, KillUnsure), nil
	case err != nil:
		return outcomes, r.judge(ctx, err)
	case again.Connection != reading.Connection:
		return fill(outcomes, KillChanged), nil
	}
	threads := make([]uint64, len(seen))
	for i := range seen {
		threads[i] = seen[i].Thread
	}
	processes, err := r.processes(ctx, threads)
	if err != nil {
		return outcomes, r.judge(ctx, err)
	}
	for i := range seen {
		if outcomes[i] = compare(seen[i], again.Transactions, processes); outcomes[i] != "" {
			continue
		}
		if outcomes[i], err = r.killConnection(ctx, seen[i].Thread); err != nil {
			return outcomes, r.judge(ctx, err)
		}
	}
	return outcomes, nil
}

func fill(outcomes []KillOutcome, with KillOutcome) []KillOutcome {
	for i := range outcomes {
		outcomes[i] = with
	}
	return outcomes
}

// compare is empty when what was seen is still there, and the same.
func compare(seen Seen, now []Transaction, processes map[uint64]Process) KillOutcome {
	at := slices.IndexFunc(now, func(t Transaction) bool { return t.Thread == seen.Thread })
	process, connected := processes[seen.Thread]
	switch {
	case seen.Thread == 0 || at < 0 || !connected:
		return KillOver
	case !now[at].Same(seen.Transaction), process.User != seen.User, process.Host != seen.Host:
		return KillChanged
	case now[at].State == StateRollingBack:
		return KillRolling
	}
	return ""
}

func (r *TransactionReader) killConnection(ctx context.Context, thread uint64) (KillOutcome, error) {
	ctx, cancel := context.WithTimeout(ctx, transactionsTimeout)
	defer cancel()
	_, err := r.conn.ExecContext(ctx, "KILL CONNECTION "+strconv.FormatUint(thread, 10))
	switch serverError(err) {
	case errorNoSuchThread:
		return KillOver, nil
	case errorNotOwner, errorNeedsPrivilege:
		return KillDenied, nil
	}
	if err != nil {
		return "", err
	}
	return KillDone, nil
}

// MayKill tells whether the account may end other users' connections, as far as its grants show. known is false when it may come by a role,
// whose grants the server does not list.
func (r *TransactionReader) MayKill(ctx context.Context) (may, known bool, err error) {
	may, known, err = r.mayKill(ctx)
	return may, known, r.judge(ctx, err)
}

func (r *TransactionReader) mayKill(ctx context.Context) (may, known bool, err error) {
	if r.conn == nil {
		return false, false, errNoConnection
	}
	ctx, cancel := context.WithTimeout(ctx, transactionsTimeout)
	defer cancel()
	rows, err := r.conn.QueryContext(ctx, "SHOW GRANTS")
	if err != nil {
		return false, false, err
	}
	defer rows.Close()
	known = true
	for rows.Next() {
		var grant sql.RawBytes // beside the privileges it may hold the hash of the password
		if err := rows.Scan(&grant); err != nil {
			return false, false, err
		}
		privileges, global := strings.CutPrefix(string(grant), "GRANT ")
		privileges, _, _ = strings.Cut(privileges, " TO ")
		privileges, scope, onSomething := strings.Cut(privileges, " ON ")
		switch {
		case !global:
		case !onSomething:
			known = false // a role
		case scope == "*.*":
			may = may || grantsKill(privileges)
		}
	}
	if err := rows.Err(); err != nil {
		return false, false, fmt.Errorf("grants: %w", err)
	}
	return may, known || may, nil
}

// grantsKill knows the names of both flavours.
func grantsKill(privileges string) bool {
	return slices.ContainsFunc(strings.Split(privileges, ", "), func(p string) bool {
		return p == "ALL PRIVILEGES" || p == "CONNECTION ADMIN" || p == "CONNECTION_ADMIN" || p == "SUPER"
	})
}
