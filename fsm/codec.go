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

// An encoded entry is: format byte, CRC-32C of the rest (big endian), CBOR of wireEntry.
const (
	entryFormat     = 1
	entryHeaderSize = 1 + 4
)

type wireEntry struct {
	_   struct{} `cbor:",toarray"`
	Now uint64
	Ops []cbor.RawMessage // wireOp
}

type wireOp struct {
	_       struct{} `cbor:",toarray"`
	Kind    Kind
	Version uint8
	Body    cbor.RawMessage
	Key     *Key
}

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
	return encode(wireOp{Kind: op.Command.kind(), Version: commandVersion, Body: encode(op.Command), Key: op.Key})
}

// JoinEntry gives the bytes of an entry for the log.
func JoinEntry(now uint64, ops []EncodedOp) []byte {
	w := wireEntry{Now: now, Ops: make([]cbor.RawMessage, len(ops))}
	for i, op := range ops {
		w.Ops[i] = cbor.RawMessage(op)
	}
	body := encode(w)
	out := make([]byte, entryHeaderSize, entryHeaderSize+len(body))
	out[0] = entryFormat
	binary.BigEndian.PutUint32(out[1:], crc32.Checksum(body, castagnoli))
	return append(out, body...)
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
	var w wireEntry
	if err := decMode.Unmarshal(body, &w); err != nil {
		return Entry{}, fmt.Errorf("%w: %v", ErrDamagedEntry, err)
	}
	e := Entry{Now: w.Now, Ops: make([]Op, 0, len(w.Ops))}
	for _, raw := range w.Ops {
		var op wireOp
		if err := decMode.Unmarshal(raw, &op); err != nil {
			return Entry{}, fmt.Errorf("%w: %v", ErrDamagedEntry, err)
		}
		c, err := decodeCommand(op)
		if err != nil {
			return Entry{}, err
		}
		e.Ops = append(e.Ops, Op{Command: c, Key: op.Key})
	}
	return e, nil
}

func decodeCommand(op wireOp) (Command, error) {
	info := kinds[op.Kind]
	if info.decode == nil || op.Version != commandVersion {
		if op.Kind&kindIgnorable != 0 {
			return ignored{Kind: op.Kind}, nil
		}
		return nil, fmt.Errorf("%w: kind %d version %d", ErrUnknownKind, op.Kind, op.Version)
	}
	c, err := info.decode(op.Body)
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
