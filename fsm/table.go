package fsm

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
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

// section is a table as the snapshot sees it, whatever its types.
type section interface {
	title() string
	sum() Digest
	write(w io.Writer) error
	read(r *bufio.Reader) error
}

func (t *table[K, V]) title() string { return t.name }

// A section is: row count (8 bytes), then for each row the lengths and bytes of key and value, then CRC-32C of all that.
func (t *table[K, V]) write(w io.Writer) error {
	sum := crc32.New(castagnoli)
	out := io.MultiWriter(w, sum)
	if err := writeUint(out, uint64(t.rows.Len())); err != nil {
		return err
	}
	var err error
	t.rows.Scan(func(k K, r *row[K, V]) bool {
		if err = writeBytes(out, encode(k)); err == nil {
			err = writeBytes(out, encode(r.value))
		}
		return err == nil
	})
	if err != nil {
		return err
	}
	return binary.Write(w, binary.BigEndian, sum.Sum32())
}

func (t *table[K, V]) read(r *bufio.Reader) error {
	in := &summed{r: r, h: crc32.New(castagnoli)}
	n, err := readUint(in)
	if err != nil {
		return err
	}
	for range n {
		var k K
		var v V
		if err := readValue(in, &k); err != nil {
			return err
		}
		if err := readValue(in, &v); err != nil {
			return err
		}
		t.put(k, v)
	}
	var want uint32
	if err := binary.Read(r, binary.BigEndian, &want); err != nil {
		return err
	}
	if got := in.h.Sum32(); got != want {
		return fmt.Errorf("section %s: checksum %08x, want %08x", t.name, got, want)
	}
	return nil
}

type summed struct {
	r *bufio.Reader
	h hash.Hash32
}

func (s *summed) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.h.Write(p[:n])
	return n, err
}

func writeUint(w io.Writer, n uint64) error { return binary.Write(w, binary.BigEndian, n) }

func readUint(r io.Reader) (uint64, error) {
	var n uint64
	err := binary.Read(r, binary.BigEndian, &n)
	return n, err
}

func writeBytes(w io.Writer, b []byte) error {
	var n [4]byte
	binary.BigEndian.PutUint32(n[:], uint32(len(b)))
	if _, err := w.Write(n[:]); err != nil {
		return err
	}
	_, err := w.Write(b)
	return err
}

// rowBytesMax bounds what a damaged length can make Restore allocate.
const rowBytesMax = 4 << 20

func readValue(r io.Reader, v any) error {
	var n [4]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return err
	}
	size := binary.BigEndian.Uint32(n[:])
	if size > rowBytesMax {
		return fmt.Errorf("row of %d bytes", size)
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	return decMode.Unmarshal(b, v)
}
