package fsm

import (
	"bytes"
	"strconv"

	"github.com/tidwall/btree"
)

// ordered is what a table can be keyed by.
type ordered interface{ string | uint64 }

// row is stored by its address, so that a tree moves a few bytes when it makes room, however large the value. The value is immutable.
type row[K ordered, V any] struct {
	key    K
	value  V
	digest Digest // zero as long as the row is pending
	stage  stage
}

// table is one ordered, copy-on-write collection of the state. Values are immutable once stored.
type table[K ordered, V any] struct {
	name    string
	rows    btree.Map[K, *row[K, V]]
	hashed  Digest // of the rows that are not pending
	pending backlog[K, V]
	notify  *[]Change // of the State that owns the table; nil in a clone
	key     func(K) string
	buffer  bytes.Buffer // of settle
}

func newTable[K ordered, V any](name string, changes *[]Change) *table[K, V] {
	return &table[K, V]{name: name, notify: changes, key: keyText[K]}
}

func keyText[K ordered](k K) string {
	switch k := any(k).(type) {
	case string:
		return k
	case uint64:
		return strconv.FormatUint(k, 10)
	}
	panic("fsm: no such key")
}

func (t *table[K, V]) len() int { return t.rows.Len() }

func (t *table[K, V]) get(k K) (v V, ok bool) {
	if r, ok := t.rows.Get(k); ok {
		return r.value, true
	}
	return v, false
}

func (t *table[K, V]) has(k K) bool {
	_, ok := t.rows.Get(k)
	return ok
}

func (t *table[K, V]) set(k K, v V) {
	t.put(k, v)
	t.changed(k, false)
}

// put stores without telling anybody: Restore loads rows with it.
func (t *table[K, V]) put(k K, v V) {
	r := &row[K, V]{key: k, value: v}
	if old, replaced := t.rows.Set(k, r); replaced {
		t.drop(old)
	}
	t.await(r)
}

func (t *table[K, V]) delete(k K) (v V, ok bool) {
	old, ok := t.rows.Delete(k)
	if !ok {
		return v, false
	}
	v = old.value
	t.drop(old)
	t.changed(k, true)
	return v, true
}

func (t *table[K, V]) changed(k K, gone bool) {
	if t.notify != nil {
		*t.notify = append(*t.notify, Change{Table: t.name, Key: t.key(k), Deleted: gone})
	}
}

// ascend visits rows from the first key at or after from, in order, until visit answers false.
func (t *table[K, V]) ascend(from K, visit func(K, V) bool) {
	t.rows.Ascend(from, func(k K, r *row[K, V]) bool { return visit(k, r.value) })
}

// descend is ascend the other way round.
func (t *table[K, V]) descend(from K, visit func(K, V) bool) {
	t.rows.Descend(from, func(k K, r *row[K, V]) bool { return visit(k, r.value) })
}

func (t *table[K, V]) clone() *table[K, V] {
	t.settle(0) // a row that both have does not change any more
	c := &table[K, V]{name: t.name, hashed: t.hashed, key: t.key}
	c.rows = *t.rows.Copy()
	return c
}
