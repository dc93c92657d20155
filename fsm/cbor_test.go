package fsm

import (
	"bytes"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

// What is encoded by hand is what the library makes of it, in every combination of fields, so that adding a field without a line there fails.
func TestCBOR_HandWrittenIsWhatTheLibraryGives(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	numbers := []uint64{0, 1, 23, 24, 255, 256, 65_535, 65_536, math.MaxUint32, math.MaxUint32 + 1, math.MaxUint64}
	texts := []string{"", "a", "é\x00", strings.Repeat("x", 23), strings.Repeat("x", 24), strings.Repeat("x", 300), strings.Repeat("x", 70_000)}
	for range 20_000 {
		var e Event
		v := reflect.ValueOf(&e).Elem()
		for i := range v.NumField() {
			switch f := v.Field(i); f.Kind() {
			case reflect.String:
				f.SetString(texts[r.IntN(len(texts))])
			case reflect.Uint64:
				f.SetUint(numbers[r.IntN(len(numbers))])
			case reflect.Uint32:
				f.SetUint(min(numbers[r.IntN(len(numbers))], math.MaxUint32))
			case reflect.Bool:
				f.SetBool(r.IntN(2) == 0)
			default:
				t.Fatalf("a field of kind %s", f.Kind())
			}
		}
		if got, want := e.appendCBOR([]byte("before"))[len("before"):], encode(e); !bytes.Equal(got, want) {
			t.Fatalf("%+v: %x, want %x", e, got, want)
		}
	}
	for _, n := range numbers {
		var b bytes.Buffer
		if encodeKeyTo(&b, &n); !bytes.Equal(b.Bytes(), encode(n)) {
			t.Fatalf("%d: %x", n, b.Bytes())
		}
	}
	for _, s := range texts {
		var b bytes.Buffer
		if encodeKeyTo(&b, &s); !bytes.Equal(b.Bytes(), encode(s)) {
			t.Fatalf("%.10q", s)
		}
	}
}
