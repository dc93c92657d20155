package client

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
)

// BenchmarkLock_Cycle gives what one acquire and release cost this side in CPU, and how many operations share a request, over a
// coordinator that grants everything after a millisecond and costs next to nothing itself.
func BenchmarkLock_Cycle(b *testing.B) {
	for _, workers := range []int{1, 64, 256} {
		b.Run(fmt.Sprint(workers), func(b *testing.B) { benchmarkCycles(b, workers) })
	}
}

func benchmarkCycles(b *testing.B, workers int) {
	granting := &granting{}
	c, err := New(Config{Addrs: []string{"coordinator.test"}, HTTPClient: &http.Client{Transport: granting}})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	s, err := c.OpenSession(b.Context(), "bench", 10*time.Minute)
	if err != nil {
		b.Fatal(err)
	}
	var left atomic.Int64
	left.Store(int64(b.N))
	var joined sync.WaitGroup
	b.ReportAllocs()
	before, requests, ops := cpuTime(b), granting.requests.Load(), granting.ops.Load()
	for worker := range workers {
		joined.Go(func() {
			name := fmt.Sprintf("bench/lock/%d", worker)
			for left.Add(-1) >= 0 {
				lock, err := s.Lock(context.Background(), name)
				if err == nil {
					err = lock.Unlock(context.Background())
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	joined.Wait()
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(granting.ops.Load()-ops)/float64(granting.requests.Load()-requests), "ops/request")
}

func cpuTime(b *testing.B) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// granting answers batches with grants of the right shape and made-up content.
type granting struct{ requests, ops, token atomic.Int64 }

func (g *granting) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	timer := time.NewTimer(time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	g.requests.Add(1)
	answer := bytes.NewBufferString(`{"results":[`)
	for i, o := range bytes.Split(body, []byte(`{"op":"`))[1:] {
		g.ops.Add(1)
		if i > 0 {
			answer.WriteByte(',')
		}
		switch {
		case bytes.HasPrefix(o, []byte(api.OpAcquire)):
			fmt.Fprintf(answer, `{"status":200,"index":%d,"body":{"grants":[{"name":"bench/lock/1","token":%[1]d}],"lease_remaining_ms":9991}}`, g.token.Add(1))
		case bytes.HasPrefix(o, []byte(api.OpOpenSession)):
			answer.WriteString(`{"status":200,"index":1,"body":{"id":"0123456789abcdef0123456789abcdef","ttl_ms":600000}}`)
		default:
			answer.WriteString(`{"status":204,"index":1}`)
		}
	}
	answer.WriteString("]}")
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(answer.String())), Request: r}, nil
}
