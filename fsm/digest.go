package fsm

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
)

// Digest identifies a state: equal states have equal digests. It is a sum of row hashes modulo 2^64 in each half, so it is kept up to
// date with each change instead of being computed over the whole state, and every replica can show it at every index.
// It guards against bugs and damaged memory or files, not against somebody who forges rows.
type Digest struct {
	_  struct{} `cbor:",toarray"`
	Hi uint64
	Lo uint64
}

func (d Digest) add(o Digest) Digest { return Digest{Hi: d.Hi + o.Hi, Lo: d.Lo + o.Lo} }
func (d Digest) sub(o Digest) Digest { return Digest{Hi: d.Hi - o.Hi, Lo: d.Lo - o.Lo} }

// String gives 32 hexadecimal digits.
func (d Digest) String() string { return fmt.Sprintf("%016x%016x", d.Hi, d.Lo) }

func digestOf(parts ...[]byte) Digest {
	var b bytes.Buffer
	for _, p := range parts {
		start := beginPart(&b)
		b.Write(p)
		endPart(&b, start)
	}
	return sumOf(b.Bytes())
}

// beginPart leaves room for the length of what follows, which endPart fills in: parts run together do not equal other parts.
func beginPart(b *bytes.Buffer) (start int) {
	b.Write([]byte{0, 0, 0, 0})
	return b.Len()
}

func endPart(b *bytes.Buffer, start int) {
	binary.BigEndian.PutUint32(b.Bytes()[start-4:], uint32(b.Len()-start))
}

func sumOf(b []byte) Digest {
	sum := sha256.Sum256(b)
	return Digest{Hi: binary.BigEndian.Uint64(sum[:]), Lo: binary.BigEndian.Uint64(sum[8:])}
}

// Most rows of a busy state are gone before anybody asks for a digest: a lock that is given back, a result that was seen. So a row is hashed
// when pendingMax younger ones wait behind it, and never if it went before; whoever asks for the digest hashes what waits, for the answer
// only. A table's digest is the same whenever its rows are hashed.
const pendingMax = 4_096 // rows of a table, some 5 ms of hashing

// stage tells whether a row's digest is part of the table's.
type stage uint8

const (
	stagePending stage = iota
	stageHashed
	stageGone // before it was hashed
)

// backlog is a table's rows that are yet to be hashed, oldest first, and what went meanwhile.
type backlog[K ordered, V any] struct {
	rows []*row[K, V]
	head int
}

// await is for a row that was stored.
func (t *table[K, V]) await(r *row[K, V]) {
	t.pending.rows = append(t.pending.rows, r)
	t.settle(pendingMax)
}

// drop is for a row that was deleted or replaced.
func (t *table[K, V]) drop(r *row[K, V]) {
	if r.stage == stageHashed {
		t.hashed = t.hashed.sub(r.digest)
		return // it may be a clone's too
	}
	r.stage, r.value = stageGone, *new(V)
}

// settle hashes the oldest rows until no more than keep wait.
func (t *table[K, V]) settle(keep int) {
	p := &t.pending
	for len(p.rows)-p.head > keep {
		r := p.rows[p.head]
		p.rows[p.head] = nil
		p.head++
		if r.stage == stagePending {
			r.digest, r.stage = t.rowDigest(&t.buffer, r), stageHashed
			t.hashed = t.hashed.add(r.digest)
		}
	}
	if p.head >= pendingMax || p.head == len(p.rows) {
		p.rows = slices.Delete(p.rows, 0, p.head)
		p.head = 0
	}
}

// sum is the digest of all rows. It changes nothing: readers call it side by side.
func (t *table[K, V]) sum() Digest {
	d := t.hashed
	var b bytes.Buffer
	for _, r := range t.pending.rows[t.pending.head:] {
		if r.stage == stagePending {
			d = d.add(t.rowDigest(&b, r))
		}
	}
	return d
}

// rowDigest is digestOf the table's name, the key and the value, without a copy of each.
func (t *table[K, V]) rowDigest(b *bytes.Buffer, r *row[K, V]) Digest {
	b.Reset()
	start := beginPart(b)
	b.WriteString(t.name)
	endPart(b, start)
	start = beginPart(b)
	encodeKeyTo(b, &r.key)
	endPart(b, start)
	start = beginPart(b)
	encodeValueTo(b, &r.value)
	endPart(b, start)
	return sumOf(b.Bytes())
}
