package outbox

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mapping"
)

// Reasons why a mapping's events stay where they are.
const (
	BlockedSourceMissing = "source_missing" // this node does not know the source
	BlockedTargetMissing = "target_missing"
	BlockedMappingBroken = "mapping_broken" // the stored specification does not compile: a node of another version accepted it
	BlockedSourceDown    = "source_down"    // the breaker of its table is not closed
	BlockedTargetDown    = "target_down"
)

// Batches start small, since nothing is known of the rows' size, and then keep to a time that leaves the target's deadline far away.
const (
	laneRowsStart = 100
	batchFast     = 250 * time.Millisecond
	batchSlow     = time.Second

	batchKeysMax = 1_000 // of one call of rediscache
)

// rule is one revision of a mapping, ready for use. It is immutable.
type rule struct {
	name     string
	revision uint64
	mapping  *mapping.Mapping
	source   Source // nil when the mapping reads no row
	target   Target
}

// lane is a mapping as the run sees it. It belongs to the deciding goroutine.
type lane struct {
	rule     *rule // nil when blocked
	revision uint64
	blocked  string
	source   *place // nil when the mapping reads no row
	target   *place
	rows     int // present batch size
	rowsMax  int
	inFlight int // batches
}

func compile(record fsm.Mapping) (*mapping.Mapping, error) {
	var spec mapping.Spec
	if err := json.Unmarshal(record.Spec, &spec); err != nil {
		return nil, fmt.Errorf("mapping %s: specification: %w", record.Name, err)
	}
	var columns []mapping.Column
	if err := json.Unmarshal(record.Columns, &columns); err != nil {
		return nil, fmt.Errorf("mapping %s: columns: %w", record.Name, err)
	}
	compiled, err := mapping.Compile(spec, record.Revision, columns)
	if err != nil {
		return nil, fmt.Errorf("mapping %s: %w", record.Name, err)
	}
	return compiled, nil
}

// adopt makes the lane follow a record that is new or changed. Batches under way keep the rule they began with.
func (r *run) adopt(record fsm.Mapping) {
	l := r.lanes[record.Name]
	if l == nil {
		l = &lane{rows: min(laneRowsStart, r.cfg.BatchRowsMax), rowsMax: r.cfg.BatchRowsMax}
		r.lanes[record.Name] = l
	}
	l.revision, l.rule, l.blocked = record.Revision, nil, ""
	compiled, err := compile(record)
	if err != nil {
		l.blocked = BlockedMappingBroken
		r.logger.Error("mapping does not compile, its events stay pending", "mapping", record.Name, "revision", record.Revision, "error", err)
		return
	}
	l.rowsMax = min(r.cfg.BatchRowsMax, batchKeysMax/compiled.KeyCount())
	l.rows = min(l.rows, l.rowsMax)
	next := &rule{name: record.Name, revision: record.Revision, mapping: compiled, target: r.sites.Targets[record.Target]}
	l.source = nil
	if compiled.NeedsRow() {
		next.source = r.sites.Sources[record.Source]
		l.source = r.place(placeName{kind: placeSource, name: record.Source, table: record.Table})
	}
	l.target = r.place(placeName{kind: placeTarget, name: record.Target})
	switch {
	case next.target == nil:
		l.blocked = BlockedTargetMissing
	case compiled.NeedsRow() && next.source == nil:
		l.blocked = BlockedSourceMissing
	default:
		l.rule = next
		return
	}
	r.logger.Warn("mapping is blocked on this node", "mapping", record.Name, "reason", l.blocked)
}

// room is how many rows the next batch may have; while it is none, wait says for how long.
func (l *lane) room() (rows int, wait time.Duration) {
	rows, wait = l.target.room()
	if l.source != nil {
		more, longer := l.source.room()
		rows, wait = min(rows, more), max(wait, longer)
	}
	return min(rows, l.rows), wait
}

// down tells which place is not asked as usual.
func (l *lane) down() string {
	switch {
	case !l.target.well():
		return BlockedTargetDown
	case l.source != nil && !l.source.well():
		return BlockedSourceDown
	}
	return ""
}

// admit asks both breakers, or neither.
func (l *lane) admit() (source, target ticket, ok bool) {
	if target, ok = l.target.admit(); !ok || l.source == nil {
		return source, target, ok
	}
	if source, ok = l.source.admit(); !ok {
		target.skip()
	}
	return source, target, ok
}

// adapt follows a batch: half the rows after one that was slow or suspect, twice as many after a full one that was fast.
func (l *lane) adapt(rows int, took time.Duration, halve bool) {
	switch {
	case halve || took > batchSlow:
		l.rows = max(min(rows, l.rows)/2, 1)
	case took < batchFast && rows >= l.rows:
		l.rows = min(l.rows*2, l.rowsMax)
	}
}
