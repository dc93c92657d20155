package rediscache

import (
	"strconv"
	"strings"
	"testing"

	"github.com/quiescehq/quiesce/mapping"
)

const benchKeys = 500

// BenchmarkApply is one round of the outbox without its database: Begin, Apply of 500 keys, Close.
func BenchmarkApply(b *testing.B) {
	value := strings.Repeat("v", 200)
	for name, write := range map[string]func(key string, token uint64) Guarded{
		"set": func(key string, token uint64) Guarded { return set(key, token, value) },
		"hash": func(key string, token uint64) Guarded {
			return hash(key, token, text("a", "1"), text("b", "two"), text("c", "3.00"), text("d", "four"), null("e"), text("f", "2026-01-01"))
		},
		"del": del,
	} {
		b.Run(name, func(b *testing.B) {
			target := openTarget(b, shared, nil)
			writes := make([]Guarded, benchKeys)
			var token uint64
			for b.Loop() {
				token++
				for i := range writes {
					writes[i] = write("bench:"+name+":"+strconv.Itoa(i), token)
				}
				batch := begin(b, target)
				for _, outcome := range apply(b, batch, writes...) {
					if outcome != OutcomeApplied {
						b.Fatal(outcome)
					}
				}
				batch.Close()
			}
			b.ReportMetric(float64(benchKeys*b.N)/b.Elapsed().Seconds(), "keys/s")
		})
	}
}

// BenchmarkApplyInACluster is the same on three servers: a call of a script takes the keys of one slot, which is mostly one key.
func BenchmarkApplyInACluster(b *testing.B) {
	w, _ := clusterWorld(b)
	target := w.open(b, nil)
	value := strings.Repeat("v", 200)
	keys, writes := make([]string, benchKeys), make([]Guarded, benchKeys)
	for i := range keys {
		keys[i] = "bench:cluster:" + strconv.Itoa(i)
	}
	var token uint64
	for b.Loop() {
		token++
		for i, key := range keys {
			writes[i] = set(key, token, value)
		}
		batch, err := target.Begin(b.Context(), keys)
		if err != nil {
			b.Fatal(err)
		}
		for _, outcome := range apply(b, batch, writes...) {
			if outcome != OutcomeApplied {
				b.Fatal(outcome)
			}
		}
		batch.Close()
	}
	b.ReportMetric(float64(benchKeys*b.N)/b.Elapsed().Seconds(), "keys/s")
}

func BenchmarkBegin(b *testing.B) {
	target := openTarget(b, shared, nil)
	for b.Loop() {
		batch, err := target.Begin(b.Context(), nil)
		if err != nil {
			b.Fatal(err)
		}
		batch.Close()
	}
}

func BenchmarkRead(b *testing.B) {
	target := openTarget(b, shared, nil)
	requests := make([]KeyRequest, batchKeysMax)
	writes := make([]Guarded, batchKeysMax)
	for i := range requests {
		key := "bench:read:" + strconv.Itoa(i)
		requests[i] = KeyRequest{Key: key, Type: mapping.TypeHash}
		writes[i] = hash(key, 1, text("a", "1"), text("b", "two"), text("c", "3.00"), text("d", "four"), text("e", "x"), text("f", "2026-01-01"))
	}
	batch := begin(b, target)
	apply(b, batch, writes...)
	batch.Close()
	for b.Loop() {
		if _, err := target.Read(b.Context(), requests); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(batchKeysMax*b.N)/b.Elapsed().Seconds(), "keys/s")
}
