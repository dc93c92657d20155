package fsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/fxamacker/cbor/v2"
)

// Errors of the log format. A replica that meets one in its log halts: skipping an entry that the others applied would make it differ.
var (
	ErrDamagedEntry = errors.New("fsm: damaged log entry")
	ErrUnknownKind  = errors.New("fsm: unknown command kind")
)

// Entry is the content of one Raft log entry: a batch of commands and the cluster time of the leader that proposed them.
type Entry struct {
	Now uint64 // cluster time, milliseconds
	Ops []Op
}

// Op is one command of an entry with its optional idempotency key.
type Op struct {
	Command Command
	Key     *Key
}

// An encoded entry is: format byte, CRC-32C of the rest (big endian), cluster time, count of ops, each op with its length.
const (
	entryFormat     = 2
	entryHeaderSize = 1 + 4
)

// An encoded op is: kind, version, kind of key, the key, and the body, which is what is left.
const (
	keyNone = iota
	keyFree
	keyCounted // its id is its client and number, and is not carried
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Core deterministic encoding: one value has one encoding, on which the digest relies.
var (
	encMode = mustEnc()
	decMode = mustDec()
)

func mustEnc() cbor.UserBufferEncMode {
	m, err := cbor.CoreDetEncOptions().UserBufferEncMode()
	if err != nil {
		panic(err)
	}
	return m
}

func mustDec() cbor.DecMode {
	m, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels:   16,
		MaxArrayElements:  EntryOpsMax * 16,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return m
}

// encode never fails for the types of this package: they hold no channels, functions or cycles.
func encode(v any) []byte {
	b, err := encMode.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("fsm: encode %T: %v", v, err))
	}
	return b
}

func encodeTo(b *bytes.Buffer, v any) {
	if err := encMode.MarshalToBuffer(v, b); err != nil {
		panic(fmt.Sprintf("fsm: encode %T: %v", v, err))
	}
}

// EncodedOp is one op in the form in which entries carry it.
type EncodedOp []byte

// Encode prepares an op for JoinEntry. Callers do it side by side, so that the one goroutine that builds entries only copies bytes.
func (op Op) Encode() EncodedOp {
	b := make([]byte, 0, 256)
	b = appendKey(append(b, byte(op.Command.kind()), commandVersion), op.Key)
	if flat, ok := op.Command.(flatCommand); ok {
		return flat.appendFlat(b)
	}
	return append(b, encode(op.Command)...)
}

func appendKey(b []byte, k *Key) []byte {
	switch {
	case k == nil:
		return append(b, keyNone)
	case k.Client == "":
		b = appendText(appendText(append(b, keyFree), k.Scope), k.ID)
	default:
		b = appendText(appendText(append(b, keyCounted), k.Scope), k.Client)
		b = binary.AppendUvarint(binary.AppendUvarint(b, k.Seq), k.Acked)
	}
	return binary.BigEndian.AppendUint64(b, k.Fingerprint)
}

// JoinEntry gives the bytes of an entry for the log.
func JoinEntry(now uint64, ops []EncodedOp) []byte {
	size := entryHeaderSize + 2*binary.MaxVarintLen64
	for _, op := range ops {
		size += len(op) + binary.MaxVarintLen32
	}
	b := make([]byte, entryHeaderSize, size)
	b = binary.AppendUvarint(binary.AppendUvarint(b, now), uint64(len(ops)))
	for _, op := range ops {
		b = append(binary.AppendUvarint(b, uint64(len(op))), op...)
	}
	b[0] = entryFormat
	binary.BigEndian.PutUint32(b[1:], crc32.Checksum(b[entryHeaderSize:], castagnoli))
	return b
}

// EncodeEntry is JoinEntry over the ops of an entry.
func EncodeEntry(e Entry) []byte {
	ops := make([]EncodedOp, len(e.Ops))
	for i, op := range e.Ops {
		ops[i] = op.Encode()
	}
	return JoinEntry(e.Now, ops)
}

// DecodeEntry is the inverse of EncodeEntry. Its errors wrap ErrDamagedEntry or ErrUnknownKind.
func DecodeEntry(b []byte) (Entry, error) {
	if len(b) < entryHeaderSize || b[0] != entryFormat {
		return Entry{}, fmt.Errorf("%w: bad header", ErrDamagedEntry)
	}
	body := b[entryHeaderSize:]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(b[1:]) {
		return Entry{}, fmt.Errorf("%w: checksum", ErrDamagedEntry)
	}
	w := wire{b: body}
	now, n := w.number(), w.count()
	if n > EntryOpsMax {
		return Entry{}, fmt.Errorf("%w: %d ops", ErrDamagedEntry, n)
	}
	e := Entry{Now: now, Ops: make([]Op, 0, n)}
	for range n {
		op, err := decodeOp(w.bytes())
		if err != nil {
			return Entry{}, err
		}
		e.Ops = append(e.Ops, op)
	}
	if !w.whole() {
		return Entry{}, fmt.Errorf("%w: not whole", ErrDamagedEntry)
	}
	return e, nil
}

func decodeOp(b []byte) (Op, error) {
	w := wire{b: b}
	kind, version := Kind(w.byte()), w.byte()
	key := w.key()
	if w.bad {
		return Op{}, fmt.Errorf("%w: op", ErrDamagedEntry)
	}
	c, err := decodeCommand(kind, version, w.b)
	return Op{Command: c, Key: key}, err
}

func (w *wire) key() *Key {
	var k Key
	switch w.byte() {
	case keyNone:
		return nil
	case keyFree:
		k.Scope, k.ID = w.text(), w.text()
	case keyCounted:
		k.Scope, k.Client = w.text(), w.text()
		k.Seq, k.Acked = w.number(), w.number()
	default:
		w.fail()
	}
	if len(w.b) < 8 {
		w.fail()
		return nil
	}
	k.Fingerprint = binary.BigEndian.Uint64(w.b)
	w.b = w.b[8:]
	return &k
}

func decodeCommand(kind Kind, version byte, body []byte) (Command, error) {
	info := kinds[kind]
	if info.decode == nil || version != commandVersion {
		if kind&kindIgnorable != 0 {
			return ignored{Kind: kind}, nil
		}
		return nil, fmt.Errorf("%w: kind %d version %d", ErrUnknownKind, kind, version)
	}
	c, err := info.decode(body)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %v", ErrDamagedEntry, info.name, err)
	}
	return c, nil
}

func decodeAs[C Command](b []byte) (Command, error) {
	var c C
	if err := decMode.Unmarshal(b, &c); err != nil {
		return nil, err
	}
	return c, nil
}

// flatCommand is a command so busy that it has a flat body instead of CBOR. TestCodec_FlatCommandsCarryEveryField reminds whoever adds a
// field.
type flatCommand interface {
	Command
	appendFlat(b []byte) []byte
}

var errNotWhole = errors.New("not whole")

func (c AcquireLock) appendFlat(b []byte) []byte {
	b = binary.AppendUvarint(appendText(b, c.Session), uint64(len(c.Wants)))
	for _, l := range c.Wants {
		b = append(appendText(b, l.Name), byte(l.Mode))
		b = binary.AppendUvarint(binary.AppendUvarint(b, l.Permits), l.Limit)
	}
	b = binary.AppendUvarint(binary.AppendUvarint(b, c.WaitMs), c.ClaimMs)
	b = appendText(b, c.Owner)
	reentrant := byte(0)
	if c.Reentrant {
		reentrant = 1
	}
	return appendText(binary.AppendUvarint(append(b, reentrant), c.DelayMs), c.Value)
}

func decodeAcquireLock(b []byte) (Command, error) {
	w := wire{b: b}
	c := AcquireLock{Session: w.text()}
	if n := w.count(); n > 0 {
		c.Wants = make([]LockWant, n)
	}
	for i := range c.Wants {
		c.Wants[i] = LockWant{Name: w.text(), Mode: LockMode(w.byte()), Permits: w.number(), Limit: w.number()}
	}
	c.WaitMs, c.ClaimMs, c.Owner, c.Reentrant, c.DelayMs, c.Value = w.number(), w.number(), w.text(), w.bool(), w.number(), w.text()
	if !w.whole() {
		return nil, errNotWhole
	}
	return c, nil
}

func (c ReleaseLock) appendFlat(b []byte) []byte {
	b = binary.AppendUvarint(appendText(b, c.Session), uint64(len(c.Locks)))
	for _, l := range c.Locks {
		b = binary.AppendUvarint(appendText(b, l.Name), l.Token)
	}
	return b
}

func decodeReleaseLock(b []byte) (Command, error) {
	w := wire{b: b}
	c := ReleaseLock{Session: w.text()}
	if n := w.count(); n > 0 {
		c.Locks = make([]HeldLock, n)
	}
	for i := range c.Locks {
		c.Locks[i] = HeldLock{Name: w.text(), Token: w.number()}
	}
	if !w.whole() {
		return nil, errNotWhole
	}
	return c, nil
}
