package fsm

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"runtime"
	"sync"
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

// read is write's inverse, for an empty table. Decoding a million rows takes seconds, so they are decoded in blocks, side by side; blocks are
// stored in their order. A row's digest is that of the bytes that were read: a value has one encoding.
func (t *table[K, V]) read(in *bufio.Reader) error {
	sum := crc32.New(castagnoli)
	var n uint64
	if err := binary.Read(io.TeeReader(in, sum), binary.BigEndian, &n); err != nil {
		return err
	}
	workers := runtime.GOMAXPROCS(0)
	todo, inOrder := make(chan *block[K, V], workers), make(chan *block[K, V], 2*workers)
	enough := make(chan struct{}) // closed when nobody wants more blocks
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for b := range todo {
				b.err = t.decode(b)
				close(b.decoded)
			}
		})
	}
	var failed error
	running.Go(func() {
		defer close(inOrder)
		defer close(todo)
		for n > 0 {
			b := &block[K, V]{decoded: make(chan struct{})}
			if b.raw, n, failed = readRows(in, n); failed != nil {
				return
			}
			sum.Write(b.raw)
			select {
			case todo <- b:
				inOrder <- b // there is room for what the workers have and what waits for them
			case <-enough:
				return
			}
		}
	})
	err := t.load(inOrder)
	close(enough)
	for range inOrder { // what was on its way
	}
	running.Wait()
	if err == nil {
		err = failed
	}
	if err != nil {
		return fmt.Errorf("section %s: %w", t.name, err)
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

// block is some rows of a section.
type block[K ordered, V any] struct {
	raw     []byte
	decoded chan struct{} // closed when what follows is set
	rows    []*row[K, V]
	sum     Digest
	err     error
}

const (
	blockBytes  = 64 << 10 // and one row more
	rowBytesMax = 4 << 20  // bounds what a damaged length can make us allocate
)

// readRows gives the bytes of the next rows of n, and how many rows are left then.
func readRows(in *bufio.Reader, n uint64) (raw []byte, left uint64, err error) {
	raw = make([]byte, 0, blockBytes+blockBytes/4)
	for ; n > 0 && len(raw) < blockBytes; n-- {
		for range 2 { // key, value
			if raw, err = readPart(in, raw); err != nil {
				return raw, n, err
			}
		}
	}
	return raw, n, nil
}

// readPart appends a length and as many bytes.
func readPart(in *bufio.Reader, raw []byte) ([]byte, error) {
	length, err := in.Peek(4)
	if err != nil {
		return raw, err
	}
	size := binary.BigEndian.Uint32(length)
	if size > rowBytesMax {
		return raw, fmt.Errorf("row of %d bytes", size)
	}
	start := len(raw)
	raw = append(raw, make([]byte, 4+size)...)
	_, err = io.ReadFull(in, raw[start:])
	return raw, err
}

func (t *table[K, V]) decode(b *block[K, V]) error {
	var digested bytes.Buffer // see rowDigest
	start := beginPart(&digested)
	digested.WriteString(t.name)
	endPart(&digested, start)
	prefix := digested.Len()
	for rest := b.raw; len(rest) > 0; {
		key, value, size, err := nextRow(rest)
		if err != nil {
			return err
		}
		r := &row[K, V]{stage: stageHashed}
		if err := decMode.Unmarshal(key, &r.key); err != nil {
			return err
		}
		if err := decMode.Unmarshal(value, &r.value); err != nil {
			return err
		}
		digested.Truncate(prefix)
		digested.Write(rest[:size])
		r.digest = sumOf(digested.Bytes())
		b.sum = b.sum.add(r.digest)
		b.rows = append(b.rows, r)
		rest = rest[size:]
	}
	b.raw = nil
	return nil
}

// nextRow splits the first row off, and tells the bytes of it all.
func nextRow(b []byte) (key, value []byte, size int, err error) {
	w := bytes.NewBuffer(b)
	for _, part := range []*[]byte{&key, &value} {
		var length [4]byte
		if _, err := io.ReadFull(w, length[:]); err != nil {
			return nil, nil, 0, err
		}
		n := int(binary.BigEndian.Uint32(length[:]))
		if *part = w.Next(n); len(*part) != n {
			return nil, nil, 0, io.ErrUnexpectedEOF
		}
	}
	return key, value, len(b) - w.Len(), nil
}

// load stores decoded blocks, up to the first that is damaged.
func (t *table[K, V]) load(inOrder <-chan *block[K, V]) error {
	for b := range inOrder {
		<-b.decoded
		if b.err != nil {
			return b.err
		}
		for _, r := range b.rows {
			if _, twice := t.rows.Load(r.key, r); twice {
				return fmt.Errorf("key %s twice", t.key(r.key))
			}
		}
		t.hashed = t.hashed.add(b.sum)
	}
	return nil
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
