package mapping

import (
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"testing"
)

func digestsOf(rng *rand.Rand, n int) [][16]byte {
	out := make([][16]byte, n)
	for i := range out {
		out[i] = Digest(fmt.Sprintf("order:%d", rng.Uint64()), kindRaw, fmt.Appendf(nil, "%d", rng.Uint64()))
	}
	return out
}

func sumOf(digests [][16]byte) (s Sum) {
	for _, d := range digests {
		s.Add(d)
	}
	return s
}

func TestSum_DoesNotDependOnOrderAndMerges(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		digests := digestsOf(rng, rng.IntN(50))
		whole := sumOf(digests)
		rng.Shuffle(len(digests), func(i, j int) { digests[i], digests[j] = digests[j], digests[i] })
		cut := rng.IntN(len(digests) + 1)
		merged, right := sumOf(digests[:cut]), sumOf(digests[cut:])
		merged.Merge(right)
		if merged != whole {
			t.Fatalf("parts merge to %+v, the whole is %+v", merged, whole)
		}
		for _, d := range digests[:cut] {
			whole.Sub(d)
		}
		if whole != right {
			t.Fatalf("without its first part the whole is %+v, want %+v", whole, right)
		}
	}
}

func TestSum_SeesSwapsAndDuplicates(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 1_000 {
		a, b := fmt.Sprintf("order:%d", rng.Uint64()), fmt.Sprintf("order:%d", rng.Uint64())
		x, y := fmt.Appendf(nil, "%020d", rng.Uint64()), fmt.Appendf(nil, "%020d", rng.Uint64())
		right := sumOf([][16]byte{Digest(a, kindJSON, x), Digest(b, kindJSON, y)})
		swapped := sumOf([][16]byte{Digest(a, kindJSON, y), Digest(b, kindJSON, x)})
		if right == swapped {
			t.Fatalf("values of %s and %s exchanged unseen", a, b)
		}
		for _, extra := range []int{1, 2} { // XOR would not see the even number
			more := right
			for range extra {
				more.Add(Digest(a, kindJSON, x))
			}
			if more.Hi == right.Hi && more.Lo == right.Lo || more.Count == right.Count {
				t.Fatalf("%d duplicates unseen", extra)
			}
		}
	}
}

// The negative control, and the reason for all this: the usual checksum does not see one customer's data under another's key.
func TestSum_XorOfCRC32MissesASwap(t *testing.T) {
	t.Parallel()
	crc := func(key, value string) uint32 { return crc32.ChecksumIEEE([]byte(key + "#" + value)) }
	right := crc("1001", "alice#100.50") ^ crc("1002", "bobby#200.75")
	swapped := crc("1001", "bobby#200.75") ^ crc("1002", "alice#100.50")
	if right != swapped {
		t.Fatalf("XOR of CRC32 saw the swap (%d, %d): the control is broken", right, swapped)
	}
	ours := func(key, value string) [16]byte { return Digest(key, kindRaw, []byte(value)) }
	if sumOf([][16]byte{ours("1001", "alice#100.50"), ours("1002", "bobby#200.75")}) == sumOf([][16]byte{ours("1001", "bobby#200.75"), ours("1002", "alice#100.50")}) {
		t.Error("Sum missed the swap")
	}
}

func TestDigest_PartsDoNotRunIntoEachOther(t *testing.T) {
	t.Parallel()
	seen := make(map[[16]byte]string)
	for _, parts := range [][3]string{{"ab", "c", "d"}, {"a", "bc", "d"}, {"a", "b", "cd"}, {"abcd", "", ""}, {"", "", "abcd"}, {"ab", "c", "d\x00"}, {"ab\x00", "c", "d"}} {
		d := Digest(parts[0], parts[1], []byte(parts[2]))
		if other, taken := seen[d]; taken {
			t.Errorf("%q and %s have the same digest", parts, other)
		}
		seen[d] = fmt.Sprintf("%q", parts)
	}
}

// Digests are stored in pass records and compared by later versions.
func TestDigest_IsTheSameForEver(t *testing.T) {
	t.Parallel()
	const want = "4d3ec81f11225ba8"
	if got := fmt.Sprintf("%x", Digest("order:42", kindJSON, []byte(`{"id":42}`))); got[:16] != want {
		t.Errorf("digest = %s, want %s…", got, want)
	}
}

func BenchmarkDigestRow(b *testing.B) {
	m := compile(b, ordersSpec(JSON, "id", "total", "note", "doc", "big", "rate"), orders)
	row := rowOf(42, "42", "12.50", "a note of usual length", `{"b":1,"a":[]}`, "7", "0.5")
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := m.DigestRow("order:42", row); err != nil {
			b.Fatal(err)
		}
	}
}
