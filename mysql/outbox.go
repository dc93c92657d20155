package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// OutboxRowsMax bounds the rows of one reading of the outbox table, and of one deletion.
	OutboxRowsMax = 1_000
	// OutboxKeyBytesMax bounds the text of a key in the outbox table. No key that is accepted is so long, however it is spelled.
	OutboxKeyBytesMax = 8 << 10

	outboxQueryTimeout   = 10 * time.Second // longer than lockWait, and than a scan over rows that are deleted and not purged
	outboxConnectionsMax = 10               // one for the relay, one to purge, the others for probes
	lockWait             = 2 * time.Second
	reasonRunesMax       = 500

	errorNoSuchTable = 1146
	errorLockWait    = 1205
	errorDeadlock    = 1213
)

// ErrNoTables means that the source's schema lacks the quiesce tables.
var ErrNoTables = errors.New("the quiesce tables are missing: \"quiesce sync tables\" prints them")

// OutboxSource is the outbox tables of one source, as the account sees them that is for them alone.
type OutboxSource struct{ source *Source }

// OpenOutbox checks the configuration. It does not connect.
func OpenOutbox(cfg Config) (*OutboxSource, error) {
	if cfg.QueryTimeout <= 0 {
		cfg.QueryTimeout = outboxQueryTimeout
	}
	if cfg.ConnectionsMax <= 0 {
		cfg.ConnectionsMax = outboxConnectionsMax
	}
	// Nothing here may wait for long: a probe has to tell "still open" soon, and all other statements touch rows that nobody else holds.
	source, err := openWith(cfg, map[string]string{"innodb_lock_wait_timeout": strconv.Itoa(int(lockWait.Seconds()))})
	if err != nil {
		return nil, err
	}
	return &OutboxSource{source: source}, nil
}

// Close ends the pool. Calls in progress fail.
func (o *OutboxSource) Close() error { return o.source.Close() }

// Where names the server and the database, without the account.
func (o *OutboxSource) Where() string { return o.source.Where() }

// OutboxRow is one row that an application or a trigger wrote. The keys are JSON as it was written; nil for NULL.
type OutboxRow struct {
	ID      uint64
	Mapping string
	PK      []byte
	OldKey  []byte
	NewKey  []byte
	TooLong bool // a key has more than OutboxKeyBytesMax bytes, and the keys were not read
}

// OutboxBatch is the first rows of the outbox table.
type OutboxBatch struct {
	Rows   []OutboxRow
	Oldest time.Duration // age of the first one, by the server's clock
}

// selectOutbox takes no lock and knows no cursor: an id is given at INSERT and seen at COMMIT, so that a lower one may appear after a higher
// one was read. It goes along the primary key and ends after the limit. The derived table is needed for LIMIT to count rows of the table and not of the join.
const selectOutbox = `SELECT s.ro, s.sid, o.id, o.mapping, o.age, o.long_one, o.pk, o.old_key, o.new_key FROM ` + proof + ` LEFT JOIN (
	SELECT id, mapping, TIMESTAMPDIFF(MICROSECOND, created_at, CURRENT_TIMESTAMP(6)) AS age,
		GREATEST(IFNULL(LENGTH(pk), 0), IFNULL(LENGTH(old_key), 0), IFNULL(LENGTH(new_key), 0)) > ? AS long_one, LEFT(pk, ?) AS pk, LEFT(old_key, ?) AS old_key, LEFT(new_key, ?) AS new_key
	FROM quiesce_outbox ORDER BY id LIMIT ?) AS o ON 1 = 1 ORDER BY o.id`

// Read reads the first rows of the outbox table: all that are committed, up to limit. Fewer than limit are all.
func (o *OutboxSource) Read(ctx context.Context, limit int) (OutboxBatch, error) {
	if limit < 1 || limit > OutboxRowsMax {
		return OutboxBatch{}, fmt.Errorf("source %s: %w: %d rows asked, 1 to %d allowed", o.source.name, ErrBatchTooLarge, limit, OutboxRowsMax)
	}
	bounded, cancel := context.WithTimeout(ctx, o.source.queryTimeout)
	defer cancel()
	const n = OutboxKeyBytesMax
	rows, err := o.source.pool.QueryContext(bounded, selectOutbox, n, n, n, n, limit)
	if err != nil {
		return OutboxBatch{}, o.wrap(ctx, err)
	}
	defer rows.Close()
	batch, err := scanOutbox(rows)
	return batch, o.wrap(ctx, err)
}

func scanOutbox(rows *sql.Rows) (OutboxBatch, error) {
	var batch OutboxBatch
	proved := false
	for rows.Next() {
		var readOnly, server string
		var id sql.Null[uint64]
		var age sql.NullInt64
		var mapping sql.NullString
		var tooLong sql.NullBool
		var row OutboxRow
		if err := rows.Scan(&readOnly, &server, &id, &mapping, &age, &tooLong, &row.PK, &row.OldKey, &row.NewKey); err != nil {
			return OutboxBatch{}, err
		}
		if !writable(readOnly) {
			return OutboxBatch{}, fmt.Errorf("%w: server %s is read-only", ErrNotPrimary, server)
		}
		proved = true
		if !id.Valid {
			continue // the proof alone: the table is empty
		}
		if len(batch.Rows) == 0 {
			batch.Oldest = time.Duration(max(age.Int64, 0)) * time.Microsecond
		}
		row.ID, row.Mapping, row.TooLong = id.V, mapping.String, tooLong.Bool
		if row.TooLong {
			row.PK, row.OldKey, row.NewKey = nil, nil, nil
		}
		batch.Rows = append(batch.Rows, row)
	}
	if err := rows.Err(); err != nil {
		return OutboxBatch{}, err
	}
	if !proved {
		return OutboxBatch{}, fmt.Errorf("%w: the server answered without its proof", ErrNotPrimary)
	}
	return batch, nil
}

// Statements that lock name rows by a list, and look up one after another: where most of a table is named, the optimizer goes over all of it whatever index it is told to use, and
// waits for each row that an application has not committed yet. The list is a JSON array.
const (
	listed       = "JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT UNSIGNED PATH '$')) AS x STRAIGHT_JOIN quiesce_outbox AS o ON o.id = x.id"
	deleteOutbox = "DELETE o FROM " + listed
	lockOutbox   = "SELECT o.id FROM " + listed + " FOR UPDATE"
	listedFences = "JSON_TABLE(?, '$[*]' COLUMNS (id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin PATH '$')) AS x STRAIGHT_JOIN quiesce_fence AS f ON f.id = x.id"
	deleteFence  = "DELETE f FROM " + listedFences
)

// Delete removes rows of the outbox table, and waits for no others. Ids that are gone are no error.
func (o *OutboxSource) Delete(ctx context.Context, ids []uint64) error {
	if len(ids) == 0 {
		return nil
	}
	if len(ids) > OutboxRowsMax {
		return fmt.Errorf("source %s: %w: %d rows to delete, at most %d", o.source.name, ErrBatchTooLarge, len(ids), OutboxRowsMax)
	}
	bounded, cancel := context.WithTimeout(ctx, o.source.queryTimeout)
	defer cancel()
	_, err := o.source.pool.ExecContext(bounded, deleteOutbox, listOf(ids))
	return o.wrap(ctx, err)
}

// Refusal is a row that cannot be accepted, and why.
type Refusal struct {
	ID     uint64
	Reason string
}

// Refuse moves rows from the outbox table to quiesce_refused, in one transaction. Those that are gone were moved before.
func (o *OutboxSource) Refuse(ctx context.Context, refusals []Refusal) error {
	if len(refusals) == 0 {
		return nil
	}
	if len(refusals) > OutboxRowsMax {
		return fmt.Errorf("source %s: %w: %d rows to refuse, at most %d", o.source.name, ErrBatchTooLarge, len(refusals), OutboxRowsMax)
	}
	bounded, cancel := context.WithTimeout(ctx, o.source.queryTimeout)
	defer cancel()
	return o.wrap(ctx, o.refuse(bounded, refusals))
}

func (o *OutboxSource) refuse(ctx context.Context, refusals []Refusal) error {
	tx, err := o.source.pool.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // of nothing after a commit
	ids := make([]uint64, len(refusals))
	var reasons strings.Builder
	args := make([]any, len(refusals))
	for i, r := range refusals {
		ids[i], args[i] = r.ID, clipRunes(r.Reason, reasonRunesMax)
		reasons.WriteString(" WHEN " + strconv.FormatUint(r.ID, 10) + " THEN ?")
	}
	// An earlier leader may be at the same: who locks the rows first moves them, and the other finds none.
	list := listOf(ids)
	for _, statement := range []struct {
		text string
		args []any
	}{
		{lockOutbox, []any{list}},
		{"INSERT INTO quiesce_refused (id, mapping, pk, old_key, new_key, created_at, reason) SELECT id, mapping, pk, old_key, new_key, created_at, CASE id" + reasons.String() +
			" END FROM quiesce_outbox WHERE id IN (" + numbersOf(ids) + ")", args},
		{deleteOutbox, []any{list}},
	} {
		if _, err := tx.ExecContext(ctx, statement.text, statement.args...); err != nil {
			return err
		}
	}
	return tx.Commit()
}

func clipRunes(s string, runesMax int) string {
	s = strings.ToValidUTF8(s, "?")
	if utf8.RuneCountInString(s) <= runesMax {
		return s
	}
	return string([]rune(s)[:runesMax])
}

// listOf is a JSON array.
func listOf(ids []uint64) string { return "[" + numbersOf(ids) + "]" }

func numbersOf(ids []uint64) string {
	b := make([]byte, 0, 12*len(ids))
	for i, id := range ids {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, id, 10)
	}
	return string(b)
}

// wrap is that of the source; a table that is missing has a remedy of its own.
func (o *OutboxSource) wrap(ctx context.Context, err error) error {
	if serverError(err) == errorNoSuchTable && ctx.Err() == nil {
		return fmt.Errorf("source %s: %w: %w", o.source.name, ErrNoTables, err)
	}
	return o.source.wrap(ctx, err)
}
