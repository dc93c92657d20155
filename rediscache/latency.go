package rediscache

import (
	"context"
	"slices"
	"time"
)

// latencyTrips is how many round trips Latency takes to each server.
const latencyTrips = 5

// Latency is the median time of a few round trips to the slowest primary, one after the other on a connection of the pools. It tells how busy a server is, since Redis does one thing at a time:
// a command waits for those before it.
func (t *Target) Latency(ctx context.Context) (time.Duration, error) {
	l, err := t.fleet.layout(ctx)
	if err != nil {
		return 0, t.fail(ctx, "latency", err)
	}
	medians := make([]time.Duration, len(l.nodes))
	err = atOnce(len(l.nodes), func(i int) error {
		conn := l.nodes[i].client.Conn()
		defer func() { _ = conn.Close() }()          // only gives it back
		if err := conn.Time(ctx).Err(); err != nil { // a new connection takes longer
			return err
		}
		took := make([]time.Duration, latencyTrips)
		for j := range took {
			began := time.Now()
			if err := conn.Time(ctx).Err(); err != nil {
				return err
			}
			took[j] = time.Since(began)
		}
		slices.Sort(took)
		medians[i] = took[latencyTrips/2]
		return nil
	})
	if err != nil {
		t.fleet.doubt(l)
		return 0, t.fail(ctx, "latency", err)
	}
	return slices.Max(medians), nil
}
