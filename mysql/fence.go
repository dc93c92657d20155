package mysql

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

const (
	fenceIDBytesMax = 64
	fencesAtOnce    = 1_000
)

// FenceVerdict is what a look at a fence told.
type FenceVerdict string

const (
	FenceCommitted  FenceVerdict = "committed"
	FenceRolledBack FenceVerdict = "rolled_back" // and the transaction cannot commit any more: its INSERT fails with 1062
	FenceOpen       FenceVerdict = "open"        // it holds its fence just now
)

// ErrFenceID means that an id cannot be that of a fence: the server would cut it off and find another's.
var ErrFenceID = errors.New("fence id empty or longer than 64 bytes")

// Probe finds out what became of the transaction that was to insert the fence first of all. It inserts the fence itself: that waits for a
// transaction that holds it, fails if one has committed it, and if none has, takes it for good. It is one statement of its own and holds nothing afterwards.
func (o *OutboxSource) Probe(ctx context.Context, id string) (FenceVerdict, error) {
	if id == "" || len(id) > fenceIDBytesMax {
		return "", fmt.Errorf("source %s: %w", o.source.name, ErrFenceID)
	}
	bounded, cancel := context.WithTimeout(ctx, o.source.queryTimeout)
	defer cancel()
	done, err := o.source.pool.ExecContext(bounded, "INSERT IGNORE INTO quiesce_fence (id, probe) VALUES (?, 1)", id)
	switch serverError(err) {
	case errorLockWait, errorDeadlock:
		return FenceOpen, nil
	}
	if err != nil {
		return "", o.wrap(ctx, err)
	}
	if n, err := done.RowsAffected(); err != nil || n == 1 {
		return FenceRolledBack, o.wrap(ctx, err)
	}
	// Somebody's row is there, committed. An earlier probe may have put it there and told nobody.
	var probe bool
	err = o.source.pool.QueryRowContext(bounded, "SELECT probe FROM quiesce_fence WHERE id = ?", id).Scan(&probe)
	switch {
	case errors.Is(err, sql.ErrNoRows): // purged just now, so it was old
		return FenceCommitted, nil
	case err != nil:
		return "", o.wrap(ctx, err)
	case probe:
		return FenceRolledBack, nil
	}
	return FenceCommitted, nil
}

// FencePurge says which fences are of no use any more.
type FencePurge struct {
	CommittedAfter time.Duration       // age of a fence that a transaction committed, from which on it may go
	ProbedAfter    time.Duration       // and of one that a probe took: longer than any transaction can be
	Keep           func(id string) int // of a fence that a transaction committed: FenceOver, FenceInUse or FenceAlien
}

// What FencePurge.Keep answers.
const (
	FenceOver  = iota // its prepared events are over: it goes after CommittedAfter
	FenceInUse        // they are not
	FenceAlien        // it is another cluster's: it goes after ProbedAfter
)

// PurgeFences removes fences that are of no use any more and tells how many. It goes over the table once, in small steps.
func (o *OutboxSource) PurgeFences(ctx context.Context, rule FencePurge) (purged int, err error) {
	after := ""
	for {
		ids, last, err := o.oldFences(ctx, after, rule)
		if err != nil {
			return purged, o.wrap(ctx, err)
		}
		n, err := o.deleteFences(ctx, ids)
		purged += n
		if err != nil || last == "" {
			return purged, o.wrap(ctx, err)
		}
		after = last
	}
}

// oldFences looks at the fences behind one in the order of the primary key. last is empty when there are no more.
func (o *OutboxSource) oldFences(ctx context.Context, after string, rule FencePurge) (ids []any, last string, err error) {
	ctx, cancel := context.WithTimeout(ctx, o.source.queryTimeout)
	defer cancel()
	rows, err := o.source.pool.QueryContext(ctx, "SELECT id, probe, TIMESTAMPDIFF(SECOND, created_at, CURRENT_TIMESTAMP) FROM quiesce_fence WHERE id > ? ORDER BY id LIMIT ?", after, fencesAtOnce)
	if err != nil {
		return nil, "", err
	}
	defer rows.Close()
	seen := 0
	for rows.Next() {
		var id string
		var probe bool
		var seconds int64
		if err := rows.Scan(&id, &probe, &seconds); err != nil {
			return nil, "", err
		}
		seen++
		last = id
		if rule.isOld(id, probe, time.Duration(seconds)*time.Second) {
			ids = append(ids, id)
		}
	}
	if seen < fencesAtOnce {
		last = ""
	}
	return ids, last, rows.Err()
}

func (r FencePurge) isOld(id string, probe bool, age time.Duration) bool {
	switch {
	case age < min(r.CommittedAfter, r.ProbedAfter):
		return false
	case probe:
		return age >= r.ProbedAfter
	}
	switch r.Keep(id) {
	case FenceInUse:
		return false
	case FenceAlien:
		return age >= r.ProbedAfter
	}
	return age >= r.CommittedAfter
}

func (o *OutboxSource) deleteFences(ctx context.Context, ids []any) (int, error) {
	if len(ids) == 0 {
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(ctx, o.source.queryTimeout)
	defer cancel()
	list, err := json.Marshal(ids)
	if err != nil {
		return 0, err
	}
	done, err := o.source.pool.ExecContext(ctx, deleteFence, string(list))
	if err != nil {
		return 0, err
	}
	n, err := done.RowsAffected()
	return int(n), err
}
