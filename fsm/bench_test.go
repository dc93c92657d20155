package fsm

import (
	"bytes"
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

// BenchmarkApply_Outbox is what each node does for a thousand events, from the entry that brings them to the one that settles them.
func BenchmarkApply_Outbox(b *testing.B) {
	const events, others = 1_000, 100_000
	s := New()
	s.Apply(1, Entry{Ops: []Op{{Command: TermStart{Node: "n"}}, {Command: PutMapping{Name: "orders", Source: "main", Target: "cache", Table: "orders", Spec: []byte("{}"), Columns: []byte("[]")}}}})
	m, ok := s.Mapping("orders")
	if !ok {
		b.Fatal("no mapping")
	}
	rows := func(from, n int) (refs []RowRef) {
		for i := range n {
			refs = append(refs, RowRef{Mapping: "orders", PK: fmt.Sprintf("[%q]", fmt.Sprint(from+i))})
		}
		return refs
	}
	apply := func(c Command) Result {
		entry, err := DecodeEntry(EncodeEntry(Entry{Now: s.Now() + 1, Ops: []Op{{Command: c}}}))
		if err != nil {
			b.Fatal(err)
		}
		results, _ := s.Apply(1, entry)
		if results[0].Refused() {
			b.Fatal(results[0])
		}
		return results[0]
	}
	for i := 0; i < others; i += events {
		apply(EnqueueEvents{Events: rows(10*others+i, events)})
	}
	batch := rows(others, events)
	b.ReportAllocs()
	begun := cpuTime()
	for b.Loop() {
		tokens := apply(EnqueueEvents{Events: batch}).Outbox.Tokens
		var settle SettleEvents
		for i, ref := range batch {
			settle.Events = append(settle.Events, Settlement{Row: ref, Revision: m.Revision, Token: tokens[i].Token})
		}
		apply(settle)
	}
	b.ReportMetric(float64((cpuTime()-begun).Nanoseconds())/float64(b.N*events), "cpu-ns/event")
}

// BenchmarkSnapshot is what a restart reads and a snapshot writes: pending events.
func BenchmarkSnapshot(b *testing.B) {
	const events, perEntry = 200_000, 1_000
	s := New()
	s.Apply(1, Entry{Ops: []Op{{Command: TermStart{Node: "n"}}, {Command: PutMapping{Name: "orders", Source: "main", Target: "cache", Table: "orders", Spec: []byte("{}"), Columns: []byte("[]")}}}})
	for i := 0; i < events; i += perEntry {
		var rows []RowRef
		for j := range perEntry {
			rows = append(rows, RowRef{Mapping: "orders", PK: fmt.Sprintf("[%q]", fmt.Sprint(i+j))})
		}
		if results, _ := s.Apply(1, Entry{Ops: []Op{{Command: EnqueueEvents{Events: rows}}}}); results[0].Refused() {
			b.Fatal(results[0])
		}
	}
	clone := s.Clone()
	var whole bytes.Buffer
	if err := clone.WriteSnapshot(&whole); err != nil {
		b.Fatal(err)
	}
	run := func(name string, do func() error) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := do(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*events), "ns/event")
		})
	}
	run("write", func() error { whole.Reset(); return clone.WriteSnapshot(&whole) })
	run("read", func() error { _, err := ReadSnapshot(bytes.NewReader(whole.Bytes())); return err })
}
