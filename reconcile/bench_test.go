package reconcile

import (
	"testing"
	"time"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mapping"
)

// BenchmarkPass_CleanTable gives the rate of a dry run that finds nothing.
func BenchmarkPass_CleanTable(b *testing.B) {
	const rows = 200_000
	for _, encoding := range []mapping.Encoding{mapping.JSON, mapping.Hash} {
		b.Run(string(encoding), func(b *testing.B) {
			w := newWorld(b, rows, func(s *mapping.Spec) { s.Encoding = encoding })
			w.config = Default()
			b.ResetTimer()
			began := time.Now()
			for range b.N {
				if p := w.run(fsm.PassDryRun, 0, 0); p.Counts.Equal != rows {
					b.Fatalf("%+v", p)
				}
			}
			b.ReportMetric(float64(rows*b.N)/time.Since(began).Seconds(), "rows/s")
		})
	}
}
