package writer

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/quiescehq/quiesce/client"
)

// Rows are chosen from a few that many contend for and from many that are seldom touched: what was not told of these stays wrong.
const (
	hottest   = 4
	hotIDs    = 80
	coldIDs   = 3_000
	coldFrom  = 1_000
	codesEach = 6 // codes for an id

	chanceHottest = 8 // in a hundred
	chanceHot     = 45
	chanceChange  = 60 // of the changes of a row that is there: its values
	chanceRecode  = 75 // its other key
	chanceMove    = 85 // its primary key; else it is deleted
	nameMax       = 4
)

var names = [nameMax]string{"näme", `quote " and \ slash`, "日本語", "🦆 duck"}

// errRaced is a row that is not any more what it was when the change was planned.
var errRaced = errors.New("somebody else has changed the row")

type kind int

const (
	insert kind = iota
	change
	recode
	move
	remove
)

// plan is a change of one row, thought out before the transaction, as prepared events need it.
type plan struct {
	tier         int
	kind         kind
	id, toID     int64
	code, toCode int64
	serial       string
}

// Queryer is a pool.
type queryer interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func anyID(rng *rand.Rand) int64 {
	switch dice := rng.IntN(100); {
	case dice < chanceHottest:
		return rng.Int64N(hottest)
	case dice < chanceHot:
		return rng.Int64N(hotIDs)
	}
	return coldFrom + rng.Int64N(coldIDs)
}

func anyCode(rng *rand.Rand) int64 {
	id := anyID(rng)
	return id*codesEach + rng.Int64N(codesEach)
}

// newPlan looks at a row and decides what becomes of it.
func newPlan(ctx context.Context, db queryer, rng *rand.Rand, tier int) (plan, error) {
	p := plan{tier: tier, id: anyID(rng)}
	p.toID, p.toCode = p.id, anyCode(rng)
	err := db.QueryRowContext(ctx, "SELECT code FROM "+Table(tier)+" WHERE id = ?", p.id).Scan(&p.code)
	if errors.Is(err, sql.ErrNoRows) {
		p.code = p.toCode
		return p, nil
	}
	switch dice := rng.IntN(100); {
	case dice < chanceChange:
		p.kind, p.toCode = change, p.code
	case dice < chanceRecode:
		p.kind = recode
	case dice < chanceMove:
		p.kind, p.toID, p.toCode = move, anyID(rng), p.code
	default:
		p.kind, p.toCode = remove, p.code
	}
	return p, err
}

// changes are the events of the plan.
func (p plan) changes() []client.Change {
	text, hash := client.Change{Mapping: MappingJSON(p.tier), PK: p.toID}, client.Change{Mapping: MappingHash(p.tier)}
	if p.toID != p.id {
		text.OldKey = p.id
	}
	if p.kind != remove {
		hash.NewKey = p.toCode
	}
	if p.kind == remove || p.toCode != p.code {
		hash.OldKey = p.code
	}
	return []client.Change{text, hash}
}

// keys are the cache keys that the plan touches.
func (p plan) keys() []string {
	keys := []string{fmt.Sprint(PrefixJSON(p.tier), p.id), fmt.Sprint(PrefixHash(p.tier), p.code)}
	if p.toID != p.id {
		keys = append(keys, fmt.Sprint(PrefixJSON(p.tier), p.toID))
	}
	if p.toCode != p.code {
		keys = append(keys, fmt.Sprint(PrefixHash(p.tier), p.toCode))
	}
	return keys
}

// apply makes the change, and notes it in the journal.
func (p plan) apply(ctx context.Context, tx client.Execer, rng *rand.Rand) error {
	name, n, price := names[rng.IntN(nameMax)], rng.IntN(1_000_000), fmt.Sprintf("%d.%02d", rng.IntN(1_000), rng.IntN(100))
	var note any
	if rng.IntN(2) == 0 {
		note = "a note"
	}
	var result sql.Result
	var err error
	switch p.kind {
	case insert:
		result, err = tx.ExecContext(ctx, "INSERT INTO "+Table(p.tier)+" (id, code, serial, name, n, price, note) VALUES (?, ?, ?, ?, ?, ?, ?)", p.id, p.code, p.serial, name, n, price, note)
	case remove:
		result, err = tx.ExecContext(ctx, "DELETE FROM "+Table(p.tier)+" WHERE id = ? AND code = ?", p.id, p.code)
	default:
		result, err = tx.ExecContext(ctx, "UPDATE "+Table(p.tier)+" SET id = ?, code = ?, serial = ?, name = ?, n = ?, price = ?, note = ? WHERE id = ? AND code = ?",
			p.toID, p.toCode, p.serial, name, n, price, note, p.id, p.code)
	}
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		return errors.Join(errRaced, err)
	}
	for _, key := range p.keys() {
		if _, err := tx.ExecContext(ctx, "INSERT INTO journal (k, serial) VALUES (?, ?)", key, p.serial); err != nil {
			return err
		}
	}
	return nil
}
