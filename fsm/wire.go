package fsm

import "encoding/binary"

// The flat form of what every entry carries: numbers as varints, texts with their length before them, lists with their count. Whatever is
// rarer is CBOR.

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// wire reads the flat form. After something that cannot be, it reads zeros; who reads asks whether it was whole.
type wire struct {
	b   []byte
	bad bool
}

// whole tells whether everything was there and nothing is left.
func (w *wire) whole() bool { return !w.bad && len(w.b) == 0 }

func (w *wire) fail() {
	w.b, w.bad = nil, true
}

func (w *wire) number() uint64 {
	n, size := binary.Uvarint(w.b)
	if size <= 0 {
		w.fail()
		return 0
	}
	w.b = w.b[size:]
	return n
}

func (w *wire) byte() byte {
	if len(w.b) == 0 {
		w.fail()
		return 0
	}
	c := w.b[0]
	w.b = w.b[1:]
	return c
}

func (w *wire) bool() bool {
	c := w.byte()
	if c > 1 {
		w.fail()
	}
	return c == 1
}

// bytes stay part of what is read.
func (w *wire) bytes() []byte {
	n := w.number()
	if n > uint64(len(w.b)) {
		w.fail()
		return nil
	}
	out := w.b[:n]
	w.b = w.b[n:]
	return out
}

func (w *wire) text() string { return string(w.bytes()) }

// count is the length of a list. Each element has a byte at least, which bounds what a damaged count makes its reader allocate.
func (w *wire) count() int {
	n := w.number()
	if n > uint64(len(w.b)) {
		w.fail()
		return 0
	}
	return int(n)
}
