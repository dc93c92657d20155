package fsm

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
)

// fill sets every field below v to something of its own.
func fill(v reflect.Value, n *uint64) {
	*n++
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), n)
		fill(v.Index(1), n)
	case reflect.String:
		v.SetString(fmt.Sprint("text ", *n))
	case reflect.Bool:
		v.SetBool(true)
	default:
		v.SetUint(*n)
	}
}

func TestCodec_FlatCommandsCarryEveryField(t *testing.T) {
	t.Parallel()
	var acquire AcquireLock
	var release ReleaseLock
	var n uint64
	fill(reflect.ValueOf(&acquire).Elem(), &n)
	fill(reflect.ValueOf(&release).Elem(), &n)
	free := &Key{Scope: "s", ID: "i", Fingerprint: 1}
	counted := &Key{Scope: "s", Client: "c", Seq: 1 << 60, Acked: 1 << 50, Fingerprint: 1 << 63}
	want := Entry{Now: 1 << 40, Ops: []Op{{acquire, free}, {release, counted}, {AcquireLock{}, nil}, {ReleaseLock{}, nil}, {Tick{}, counted}}}
	got, err := DecodeEntry(EncodeEntry(want))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%v\nread    %+v\nwritten %+v", err, got, want)
	}
}

func TestCodec_RefusesHalvesAndLeftovers(t *testing.T) {
	t.Parallel()
	key := &Key{Client: "c", Seq: 300}
	for _, op := range []Op{
		{AcquireLock{Session: "a", Wants: want("x", "y")}, key}, {ReleaseLock{Session: "a", Locks: []HeldLock{{"x", 300}}}, key}, {OpenSession{ID: "a"}, key},
	} {
		whole := op.Encode()
		for cut := range whole {
			if _, err := DecodeEntry(JoinEntry(1, []EncodedOp{whole[:cut]})); !errors.Is(err, ErrDamagedEntry) && !errors.Is(err, ErrUnknownKind) {
				t.Errorf("%T cut after %d of %d bytes: %v", op.Command, cut, len(whole), err)
			}
		}
		if _, err := DecodeEntry(JoinEntry(1, []EncodedOp{append(whole, 0)})); !errors.Is(err, ErrDamagedEntry) {
			t.Errorf("%T with a byte too many: %v", op.Command, err)
		}
	}
	many := make([]EncodedOp, EntryOpsMax+1)
	for i := range many {
		many[i] = Op{Command: Tick{}}.Encode()
	}
	if _, err := DecodeEntry(JoinEntry(1, many[1:])); err != nil {
		t.Errorf("as many ops as may be: %v", err)
	}
	if _, err := DecodeEntry(JoinEntry(1, many)); !errors.Is(err, ErrDamagedEntry) {
		t.Errorf("one op too many: %v", err)
	}
}
