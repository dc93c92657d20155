package rediscache

import (
	"errors"
	"reflect"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/quiescehq/quiesce/mapping"
)

func TestRead_ReturnsContentTypeAndTTLInOrder(t *testing.T) {
	t.Parallel()
	target := openTarget(t, shared, nil)
	key := func(name string) string { return keyOf(t, name) }
	shared.do(t, "SET", key("string"), "v", "PX", 60_000)
	shared.do(t, "SET", key("empty"), "")
	shared.do(t, "HSET", key("hash"), "a", "1", "b", "")
	shared.do(t, "RPUSH", key("list"), "x")
	request := func(name, typ string) KeyRequest { return KeyRequest{Key: key(name), Type: typ} }
	actuals, err := target.Read(t.Context(), []KeyRequest{
		request("list", mapping.TypeString),
		request("string", mapping.TypeString),
		request("absent", mapping.TypeString),
		request("hash", mapping.TypeHash),
		request("absent", mapping.TypeHash),
		request("hash", mapping.TypeString),
		request("string", mapping.TypeHash),
		request("list", mapping.TypeHash),
		request("empty", mapping.TypeString),
	})
	if err != nil {
		t.Fatal(err)
	}
	types := []string{mapping.TypeOther, mapping.TypeString, mapping.TypeNone, mapping.TypeHash, mapping.TypeNone,
		mapping.TypeHash, mapping.TypeString, mapping.TypeOther, mapping.TypeString}
	for i, want := range types {
		if actuals[i].Type != want {
			t.Errorf("key %d is %q, want %q", i, actuals[i].Type, want)
		}
	}
	if str := actuals[1]; string(str.Value) != "v" || str.TTLMillis <= 50_000 || str.TTLMillis > 60_000 {
		t.Errorf("string is %+v", str)
	}
	fields := make(map[string]string)
	for _, field := range actuals[3].Fields {
		fields[field.Name] = string(field.Value)
	}
	if b, ok := fields["b"]; len(fields) != 2 || fields["a"] != "1" || b != "" || !ok {
		t.Errorf("hash is %v", fields)
	}
	if actuals[3].TTLMillis != mapping.NoExpiry || actuals[2].TTLMillis != mapping.NoExpiry {
		t.Errorf("TTL of a key without one: %d, of a missing key: %d", actuals[3].TTLMillis, actuals[2].TTLMillis)
	}
}

// TestRead_Forever: who does not ask for the expiry is told the same of everything else.
func TestRead_Forever(t *testing.T) {
	t.Parallel()
	target := openTarget(t, shared, nil)
	key := func(name string) string { return keyOf(t, name) }
	shared.do(t, "SET", key("string"), "v", "PX", 60_000)
	shared.do(t, "SET", key("empty"), "")
	shared.do(t, "HSET", key("hash"), "a", "1")
	shared.do(t, "RPUSH", key("list"), "x")
	var asked, forever []KeyRequest
	for _, name := range []string{"list", "string", "absent", "hash", "empty"} {
		for _, typ := range []string{mapping.TypeString, mapping.TypeHash} {
			asked = append(asked, KeyRequest{Key: key(name), Type: typ})
			forever = append(forever, KeyRequest{Key: key(name), Type: typ, Forever: true})
		}
	}
	want, err := target.Read(t.Context(), asked)
	if err != nil {
		t.Fatal(err)
	}
	got, err := target.Read(t.Context(), forever)
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		want[i].TTLMillis = mapping.NoExpiry
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Errorf("%+v: %+v, want %+v", forever[i], got[i], want[i])
		}
	}
}

func TestRead_SeesWhatApplyWrote(t *testing.T) {
	t.Parallel()
	target := openTarget(t, shared, nil)
	var writes []Guarded
	var requests []KeyRequest
	for i := range batchKeysMax {
		key := keyOf(t, strconv.Itoa(i))
		writes = append(writes, withTTL(hash(key, 1, text("n", strconv.Itoa(i))), time.Minute))
		requests = append(requests, KeyRequest{Key: key, Type: mapping.TypeHash})
	}
	apply(t, begin(t, target), writes...)
	actuals, err := target.Read(t.Context(), requests)
	if err != nil {
		t.Fatal(err)
	}
	for i, actual := range actuals {
		if len(actual.Fields) != 1 || string(actual.Fields[0].Value) != strconv.Itoa(i) || actual.TTLMillis <= 0 {
			t.Fatalf("key %d: %+v", i, actual)
		}
	}
}

func TestRead_KeyThatChangedBetweenRepliesIsWhatTheFirstOneSaw(t *testing.T) {
	t.Parallel()
	target := openTarget(t, shared, nil)
	key := keyOf(t, "k")
	shared.do(t, "SET", key, "v")
	actuals := make([]mapping.Actual, 1)
	if err := classifyOdd(t.Context(), target.only(), []KeyRequest{{Key: key, Type: mapping.TypeString}}, []int{0}, actuals); err != nil {
		t.Fatal(err)
	}
	if actuals[0].Type != mapping.TypeOther {
		t.Errorf("a key that was of another type a moment ago is %q", actuals[0].Type)
	}
	expired := keyRead{value: redis.NewStringResult("v", nil), ttl: redis.NewDurationResult(pttlMissing, nil)}
	if actual, err := expired.actual(); err != nil || actual.Type != mapping.TypeNone || actual.Value != nil {
		t.Errorf("a key that expired under the read is %+v, %v", actual, err)
	}
}

func TestRead_LimitsAreRefused(t *testing.T) {
	t.Parallel()
	target := openTarget(t, shared, nil)
	for name, requests := range map[string][]KeyRequest{
		"keys": make([]KeyRequest, batchKeysMax+1),
		"key":  {{Type: mapping.TypeHash}},
		"type": {{Key: "k", Type: "list"}},
	} {
		if _, err := target.Read(t.Context(), requests); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if actuals, err := target.Read(t.Context(), nil); err != nil || len(actuals) != 0 {
		t.Errorf("no keys: %v, %v", actuals, err)
	}
}
