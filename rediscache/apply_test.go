package rediscache

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/mapping"
)

func TestApply_NewerTokenWinsAndOlderOrSameIsSuperseded(t *testing.T) {
	t.Parallel()
	target := openTarget(t, shared, nil)
	key := keyOf(t, "k")
	batch := begin(t, target)
	expectOutcome(t, apply(t, batch, set(key, 10, "ten")), OutcomeApplied)
	expectOutcome(t, apply(t, batch, set(key, 10, "again"), set(key, 9, "nine")), OutcomeSuperseded, OutcomeSuperseded)
	if got := shared.get(t, key); got != "ten" {
		t.Fatalf("value is %q", got)
	}
	expectOutcome(t, apply(t, batch, set(key, 11, "eleven")), OutcomeApplied)
	if got := shared.get(t, key); got != "eleven" {
		t.Fatalf("value is %q", got)
	}
}

func TestApply_TokensAreComparedAsIntegersOfAnyLength(t *testing.T) {
	t.Parallel()
	target := openTarget(t, shared, nil)
	const edge = uint64(1) << 53
	ascending := []uint64{1, 2, 9, 10, 99, 100, 101, edge - 1, edge, edge + 1, edge + 2, 1<<63 - 1, 1 << 63, 1<<64 - 1}
	batch := begin(t, target)
	for i := 1; i < len(ascending); i++ {
		low, high := ascending[i-1], ascending[i]
		key := keyOf(t, strconv.FormatUint(high, 10))
		outcomes := apply(t, batch, set(key, high, "high"), set(key, low, "low"), set(key, high, "same"))
		expectOutcome(t, outcomes, OutcomeApplied, OutcomeSuperseded, OutcomeSuperseded)
		other := key + ":rising"
		expectOutcome(t, apply(t, batch, set(other, low, "low"), set(other, high, "high")), OutcomeApplied, OutcomeApplied)
	}
}

func TestApply_AnyOrderOfTokensEndsWithTheNewest(t *testing.T) {
	t.Parallel()
	target := openTarget(t, shared, nil)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for round := range 60 {
		key := keyOf(t, strconv.Itoa(round))
		batch := begin(t, target)
		var newest uint64
		for step := range 25 {
			token := 1 + random.Uint64N(1<<random.UintN(60))
			outcomes := apply(t, batch, randomWrite(random, key, token))
			want := OutcomeSuperseded
			if token > newest {
				want, newest = OutcomeApplied, token
			}
			if outcomes[0] != want {
				t.Fatalf("round %d step %d: token %d is %v, want %v", round, step, token, outcomes[0], want)
			}
			if guard := shared.fields(t, guardOf(key))["t"]; guard != strconv.FormatUint(newest, 10) {
				t.Fatalf("round %d step %d: guard %s, newest %d", round, step, guard, newest)
			}
		}
		expectOutcome(t, apply(t, batch, set(key, newest+1, "last")), OutcomeApplied)
		if got := shared.get(t, key); got != "last" {
			t.Fatalf("round %d: %q", round, got)
		}
		batch.Close()
	}
}

func randomWrite(random *rand.Rand, key string, token uint64) Guarded {
	if random.UintN(4) == 0 {
		return del(key, token)
	}
	return set(key, token, strconv.FormatUint(token, 10))
}

func TestApply_TombstoneRefusesOlderWrite(t *testing.T) {
	t.Parallel()
	target := openTarget(t, shared, nil)
	key := keyOf(t, "k")
	batch := begin(t, target)
	expectOutcome(t, apply(t, batch, set(key, 1, "v"), del(key, 5), set(key, 4, "back from the dead")),
		OutcomeApplied, OutcomeApplied, OutcomeSuperseded)
	if shared.exists(t, key) {
		t.Fatal("a deleted row's key came back")
	}
}

func TestApply_GuardLivesForItsTTLAndNoLonger(t *testing.T) {
	t.Parallel()
	target := openTarget(t, shared, func(c *Config) { c.Deadline, c.GuardTTL = 500*time.Millisecond, 2*time.Second })
	key := keyOf(t, "k")
	expectOutcome(t, apply(t, begin(t, target), set(key, 7, "v")), OutcomeApplied)
	left := shared.do(t, "PTTL", guardOf(key)).(int64)
	if left <= 0 || left > 2000 {
		t.Fatalf("guard lives %d ms", left)
	}
	eventually(t, "guard expires", func() bool { return !shared.exists(t, guardOf(key)) })
	if !shared.exists(t, key) {
		t.Fatal("the data went with its guard")
	}
	expectOutcome(t, apply(t, begin(t, target), set(key, 1, "w")), OutcomeApplied)
}

func TestApply_ClearsReadersLease(t *testing.T) {
	t.Parallel()
	target := openTarget(t, shared, nil)
	key := keyOf(t, "k")
	for name, guarded := range map[string]Guarded{"set": set(key, 1, "v"), "del": del(key, 2)} {
		shared.do(t, "HSET", guardOf(key), "l", "reader", "x", "1")
		apply(t, begin(t, target), guarded)
		if guard := shared.fields(t, guardOf(key)); guard["l"] != "" || guard["x"] != "" {
			t.Fatalf("%s left the lease: %v", name, guard)
		}
		shared.do(t, "DEL", guardOf(key))
	}
}

func TestApply_TTLIsSetReplacedAndRemoved(t *testing.T) {
	t.Parallel()
	target := openTarget(t, shared, nil)
	batch := begin(t, target)
	str, hsh := keyOf(t, "string"), keyOf(t, "hash")
	ttl := func(key string) int64 { return shared.do(t, "PTTL", key).(int64) }

	apply(t, batch, withTTL(set(str, 1, "v"), time.Minute), withTTL(hash(hsh, 1, text("a", "1")), time.Minute))
	for _, key := range []string{str, hsh} {
		if got := ttl(key); got <= 50_000 || got > 60_000 {
			t.Fatalf("%s: TTL %d", key, got)
		}
	}
	apply(t, batch, set(str, 2, "v"), hash(hsh, 2, text("a", "1")))
	for _, key := range []string{str, hsh} {
		if got := ttl(key); got != -1 {
			t.Fatalf("%s: TTL %d after a write without one", key, got)
		}
	}
}

func TestApply_HashKeepsForeignFieldsAndRemovesNulls(t *testing.T) {
	t.Parallel()
	target := openTarget(t, shared, nil)
	batch := begin(t, target)
	key := keyOf(t, "k")
	shared.do(t, "HSET", key, "foreign", "stays", "note", "old")
	expectOutcome(t, apply(t, batch, hash(key, 1, text("id", "1"), null("note"), text("state", ""))), OutcomeApplied)
	want := map[string]string{"foreign": "stays", "id": "1", "state": ""}
	if got := shared.fields(t, key); !maps.Equal(got, want) {
		t.Fatalf("fields %v, want %v", got, want)
	}
}

func TestApply_HashOfNullsLeavesNoKey(t *testing.T) {
	t.Parallel()
	target := openTarget(t, shared, nil)
	key := keyOf(t, "k")
	batch := begin(t, target)
	expectOutcome(t, apply(t, batch, hash(key, 1, text("a", "1"))), OutcomeApplied)
	expectOutcome(t, apply(t, batch, hash(key, 2, null("a"), null("b"))), OutcomeApplied)
	if shared.exists(t, key) {
		t.Fatal("an empty hash is left")
	}
}

func TestApply_WrongTypeChangesNothingAndSparesItsNeighbours(t *testing.T) {
	t.Parallel()
	target := openTarget(t, shared, nil)
	asHash, asString, asList, guarded, fine := keyOf(t, "h"), keyOf(t, "s"), keyOf(t, "l"), keyOf(t, "g"), keyOf(t, "fine")
	shared.do(t, "HSET", asHash, "f", "1")
	shared.do(t, "SET", asString, "1")
	shared.do(t, "RPUSH", asList, "1")
	shared.do(t, "SET", guardOf(guarded), "not a guard")
	outcomes := apply(t, begin(t, target),
		set(asHash, 1, "v"), hash(asString, 1, text("a", "1")), set(asList, 1, "v"), set(guarded, 1, "v"), set(fine, 1, "v"))
	expectOutcome(t, outcomes, OutcomeWrongType, OutcomeWrongType, OutcomeWrongType, OutcomeWrongType, OutcomeApplied)
	if got := shared.fields(t, asHash)["f"]; got != "1" {
		t.Fatal("the hash was overwritten")
	}
	if shared.exists(t, guarded) || shared.exists(t, guardOf(asHash)) {
		t.Fatal("a refused write left traces")
	}
	expectOutcome(t, apply(t, begin(t, target), del(asList, 2)), OutcomeApplied)
	if shared.exists(t, asList) {
		t.Fatal("a removal must not depend on the type")
	}
}

func TestApply_PastTheDeadlineIsTooLate(t *testing.T) {
	t.Parallel()
	target := openTarget(t, shared, func(c *Config) { c.Deadline, c.GuardTTL = 20*time.Millisecond, time.Second })
	key := keyOf(t, "k")
	batch := begin(t, target)
	eventually(t, "deadline", func() bool { return time.Since(batch.parts[0].began) > 25*time.Millisecond })
	expectOutcome(t, apply(t, batch, set(key, 1, "v")), OutcomeTooLate)
	if shared.exists(t, key) || shared.exists(t, guardOf(key)) {
		t.Fatal("a late write left traces")
	}
}

func TestApply_ServerClockSetBackIsTooLate(t *testing.T) {
	t.Parallel()
	target := openTarget(t, shared, nil)
	key := keyOf(t, "k")
	batch := begin(t, target)
	batch.parts[0].began = batch.parts[0].began.Add(-time.Second) // as if the server's clock had stood still for a second of ours
	expectOutcome(t, apply(t, batch, set(key, 1, "v")), OutcomeTooLate)
	if shared.exists(t, key) {
		t.Fatal("written under a clock that went back")
	}
}

func TestApply_BatchLargerThanOneScriptCall(t *testing.T) {
	t.Parallel()
	target := openTarget(t, shared, nil)
	writes := make([]Guarded, batchKeysMax)
	for i := range writes {
		writes[i] = set(keyOf(t, strconv.Itoa(i)), 1, strconv.Itoa(i))
	}
	writes[500].Write.Value = []byte(strings.Repeat("x", scriptBytesMax+1))
	shared.do(t, "HSET", writes[501].Write.Key, "a", "1")
	for i, outcome := range apply(t, begin(t, target), writes...) {
		want := OutcomeApplied
		if i == 501 {
			want = OutcomeWrongType
		}
		if outcome != want {
			t.Fatalf("outcome %d is %v, want %v", i, outcome, want)
		}
	}
	if got := shared.get(t, keyOf(t, "999")); got != "999" {
		t.Fatalf("value of the last key is %q", got)
	}
	if got := len(shared.get(t, keyOf(t, "500"))); got != scriptBytesMax+1 {
		t.Fatalf("the large value has %d bytes", got)
	}
}

func TestApply_LimitsAreRefusedBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	target := openTarget(t, shared, nil)
	batch := begin(t, target)
	wide := hash(keyOf(t, "k"), 1)
	for i := range fieldsMax + 1 {
		wide.Write.Fields = append(wide.Write.Fields, text(fmt.Sprintf("f%d", i), "v"))
	}
	atLimit := wide
	atLimit.Write.Fields = wide.Write.Fields[:fieldsMax]
	same := set(keyOf(t, "k"), 1, "v")
	same.Write.Guard = same.Write.Key
	bad := map[string][]Guarded{
		"keys":      make([]Guarded, batchKeysMax+1),
		"token":     {set(keyOf(t, "k"), 0, "v")},
		"key":       {set("", 1, "v")},
		"guard":     {same},
		"operation": {{Token: 1, Write: mapping.Write{Key: "k", Guard: "g"}}},
		"ttl":       {withTTL(set(keyOf(t, "k"), 1, "v"), -time.Second)},
		"fields":    {wide},
	}
	for name, writes := range bad {
		outcomes, err := batch.Apply(t.Context(), writes)
		if !errors.Is(err, ErrInvalid) || errors.Is(err, ErrBatchOver) {
			t.Errorf("%s: %v", name, err)
		}
		for _, outcome := range outcomes {
			if outcome != OutcomeUnknown {
				t.Errorf("%s: outcome %v", name, outcome)
			}
		}
	}
	expectOutcome(t, apply(t, batch, atLimit), OutcomeApplied)
}
