package fsm

import (
	"fmt"
	"syscall"
	"testing"
	"time"
)

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkApply_LockCycles is what each node does for one acquire and one release, as clients send them: under counted keys, many in one
// entry.
func BenchmarkApply_LockCycles(b *testing.B) {
	for _, cycles := range []int{1, 64} {
		b.Run(fmt.Sprint(cycles), func(b *testing.B) {
			s := New()
			s.Apply(1, Entry{Ops: []Op{{Command: TermStart{Node: "n"}}, {Command: OpenSession{ID: "0123456789abcdef0123456789abcdef", TTLMs: 10_000}}}})
			seq, now := uint64(0), uint64(1)
			key := func() *Key {
				seq++
				return &Key{ID: fmt.Sprint("0123456789abcdef/", seq), Fingerprint: seq, Client: "0123456789abcdef", Seq: seq, Acked: seq - (seq-1)%uint64(cycles)}
			}
			b.ReportAllocs()
			begun := cpuTime()
			for range b.N {
				now++
				var take, give Entry
				take.Now, give.Now = now, now
				for i := range cycles {
					take.Ops = append(take.Ops, Op{Key: key(), Command: AcquireLock{Session: "0123456789abcdef0123456789abcdef", Wants: []LockWant{{Name: fmt.Sprint("bench/lock/", i)}}}})
				}
				entry, err := DecodeEntry(EncodeEntry(take))
				if err != nil {
					b.Fatal(err)
				}
				results, _ := s.Apply(1, entry)
				for i := range cycles {
					give.Ops = append(give.Ops, Op{Key: key(), Command: ReleaseLock{Session: "0123456789abcdef0123456789abcdef",
						Locks: []HeldLock{{Name: fmt.Sprint("bench/lock/", i), Token: results[i].Lock.Grants[0].Token}}}})
				}
				if entry, err = DecodeEntry(EncodeEntry(give)); err != nil {
					b.Fatal(err)
				}
				s.Apply(1, entry)
			}
			b.ReportMetric(float64((cpuTime()-begun).Microseconds())/float64(b.N*cycles), "cpu-µs/cycle") // of the process: the machine may be busy
		})
	}
}
