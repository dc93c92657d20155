package fsm

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
)

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
	if err := binary.Write(out, binary.BigEndian, uint64(t.rows.Len())); err != nil {
		return err
	}
	var err error
	var b bytes.Buffer
	t.rows.Scan(func(k K, r *row[K, V]) bool {
		b.Reset()
		start := beginPart(&b)
		encodeKeyTo(&b, &k)
		endPart(&b, start)
		start = beginPart(&b)
		encodeValueTo(&b, &r.value)
		endPart(&b, start)
		_, err = out.Write(b.Bytes())
		return err == nil
	})
	if err != nil {
		return err
	}
	return binary.Write(w, binary.BigEndian, sum.Sum32())
}

// rowBytesMax bounds what a damaged length can make read allocate.
const rowBytesMax = 4 << 20

// read is write's inverse, for an empty table. A row's digest is that of the bytes that were read: a value has one encoding. (rowDigest)
func (t *table[K, V]) read(in *bufio.Reader) error {
	sum := crc32.New(castagnoli)
	var n uint64
	if err := binary.Read(io.TeeReader(in, sum), binary.BigEndian, &n); err != nil {
		return err
	}
	b := make([]byte, 0, 1<<10) // name, key and value, each after its length
	b = append(binary.BigEndian.AppendUint32(b, uint32(len(t.name))), t.name...)
	name := len(b)
	for range n {
		r := &row[K, V]{stage: stageHashed}
		var err error
		for _, into := range []any{&r.key, &r.value} {
			start := len(b) + 4
			if b, err = readPart(in, b); err != nil {
				return fmt.Errorf("section %s: %w", t.name, err)
			}
			if err := decMode.Unmarshal(b[start:], into); err != nil {
				return fmt.Errorf("section %s: %w", t.name, err)
			}
		}
		sum.Write(b[name:])
		r.digest = sumOf(b)
		t.hashed = t.hashed.add(r.digest)
		if _, twice := t.rows.Load(r.key, r); twice {
			return fmt.Errorf("section %s: key %s twice", t.name, t.key(r.key))
		}
		b = b[:name]
	}
	var want uint32
	if err := binary.Read(in, binary.BigEndian, &want); err != nil {
		return err
	}
	if got := sum.Sum32(); got != want {
		return fmt.Errorf("section %s: checksum %08x, want %08x", t.name, got, want)
	}
	return nil
}

// readPart appends a length and as many bytes.
func readPart(in *bufio.Reader, b []byte) ([]byte, error) {
	length, err := in.Peek(4)
	if err != nil {
		return b, err
	}
	size := binary.BigEndian.Uint32(length)
	if size > rowBytesMax {
		return b, fmt.Errorf("row of %d bytes", size)
	}
	start := len(b)
	b = slices.Grow(b, int(4+size))[:start+int(4+size)]
	_, err = io.ReadFull(in, b[start:])
	return b, err
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

func readValue(in *bufio.Reader, v any) error {
	b, err := readPart(in, nil)
	if err != nil {
		return err
	}
	return decMode.Unmarshal(b[4:], v)
}
