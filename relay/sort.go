package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mysql"
)

const keyPartsMax = 16 // of the API's pk, old_key and new_key

// errMapper means that a mapping cannot tell what a row names, whatever the row says.
var errMapper = errors.New("a mapping of the state cannot be used by this version")

// sorted is one reading: rows that are good, what they name, and rows that are not.
type sorted struct {
	rows     []fsm.RowRef // each once, in the order of their first mention
	accepted []uint64
	refused  []mysql.Refusal
}

// sort finds out what rows name. It asks the state once.
func (m *mover) sort(ctx context.Context, rows []mysql.OutboxRow) (sorted, error) {
	mappings := m.mappings(rows)
	var out sorted
	seen := map[fsm.RowRef]bool{}
	for _, row := range rows {
		refs, err := m.rowsOf(ctx, mappings, row)
		switch {
		case errors.Is(err, ErrKey):
			out.refused = append(out.refused, mysql.Refusal{ID: row.ID, Reason: strings.TrimPrefix(err.Error(), ErrKey.Error()+": ")})
			continue
		case err != nil:
			return sorted{}, fmt.Errorf("%w: row %d of mapping %s: %w", errMapper, row.ID, row.Mapping, err)
		}
		out.accepted = append(out.accepted, row.ID)
		for _, ref := range refs {
			if !seen[ref] {
				seen[ref] = true
				out.rows = append(out.rows, ref)
			}
		}
	}
	return out, nil
}

func (m *mover) mappings(rows []mysql.OutboxRow) map[string]fsm.Mapping {
	known := map[string]fsm.Mapping{}
	m.task.Log.View(func(s *fsm.State) {
		for _, row := range rows {
			if record, ok := s.Mapping(row.Mapping); ok {
				known[row.Mapping] = record
			}
		}
	})
	return known
}

// rowsOf fails with ErrKey where the row is at fault. The mapping may be of another source: an event too many does no harm.
func (m *mover) rowsOf(ctx context.Context, mappings map[string]fsm.Mapping, row mysql.OutboxRow) ([]fsm.RowRef, error) {
	record, ok := mappings[row.Mapping]
	switch {
	case !ok:
		return nil, fmt.Errorf("%w: no such mapping", ErrKey)
	case row.TooLong:
		return nil, fmt.Errorf("%w: a key of more than %d bytes", ErrKey, mysql.OutboxKeyBytesMax)
	case row.PK == nil && row.OldKey == nil && row.NewKey == nil:
		return nil, fmt.Errorf("%w: the row names none", ErrKey)
	}
	var keys Keys
	if err := errors.Join(parse("pk", row.PK, &keys.PK), parse("old_key", row.OldKey, &keys.Old), parse("new_key", row.NewKey, &keys.New)); err != nil {
		return nil, err
	}
	named, err := m.task.Mapper.Keys(ctx, record, keys)
	if err != nil {
		return nil, err
	}
	var refs []fsm.RowRef
	for _, key := range named {
		switch {
		case key == "": // a NULL names nothing
		case len(key) > fsm.PKBytesMax:
			return nil, fmt.Errorf("%w: longer than %d bytes", ErrKey, fsm.PKBytesMax)
		default:
			refs = append(refs, fsm.RowRef{Mapping: row.Mapping, PK: key})
		}
	}
	if len(refs) > 2 {
		return nil, fmt.Errorf("a row that names %d keys", len(refs))
	}
	return refs, nil
}

func parse(field string, text []byte, into *[]json.RawMessage) error {
	if text == nil {
		return nil
	}
	if err := json.Unmarshal(text, into); err != nil || len(*into) == 0 || len(*into) > keyPartsMax {
		return fmt.Errorf("%w: %s is no JSON array of 1 to %d strings", ErrKey, field, keyPartsMax)
	}
	return nil
}
