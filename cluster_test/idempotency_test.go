package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/cluster_test/harness"
)

const (
	sameKeys   = 100
	sameWithin = 30 * time.Second
)

// A lock that is not free is refused even to its holder, so a request that was applied twice shows.
func TestIdempotency_SameKeyInParallelIsAppliedOnceAcrossAFailover(t *testing.T) {
	for _, key := range []string{"any-text", "counted-client/1"} {
		t.Run(key[:3], func(t *testing.T) {
			c := harness.Start(t, harness.Options{})
			session := openSession(c, longSession)
			request := harness.Request{Method: http.MethodPost, Path: "/v1/locks/acquire", Key: key,
				Body: api.AcquireLocks{Session: session, Locks: []api.LockWanted{{Name: "once"}}}}
			leader := c.Leader()
			wave := startWave(t, c, request)
			<-wave.first
			leader.Kill() // while most of the hundred are under way
			before := wave.tokens(t)
			after := startWave(t, c, request).tokens(t)
			for token := range after {
				before[token] = true
			}
			if len(before) != 1 {
				t.Errorf("one request was answered with %d tokens: %v", len(before), before)
			}
			request.Body = api.AcquireLocks{Session: session, Locks: []api.LockWanted{{Name: "another"}}}
			answer, err := c.Caller().Do(t.Context(), request)
			if err != nil || answer.Status != http.StatusUnprocessableEntity || answer.Problem().Code != api.CodeKeyReused {
				t.Errorf("the key with another body: %d %s, %v", answer.Status, answer.Body, err)
			}
			if held := locksUnder(c, "another"); len(held) != 0 {
				t.Errorf("the refused request took %v", held)
			}
			leader.Start()
			c.AwaitReady(leader)
			c.AwaitSameState()
		})
	}
}

// wave is one request sent by many at once, a third of them through each node.
type wave struct {
	first  chan struct{} // closed by the first answer
	joined sync.WaitGroup
	once   sync.Once

	mu      sync.Mutex
	answers map[uint64]bool
	wrong   []error
}

func startWave(t *testing.T, c *harness.Cluster, request harness.Request) *wave {
	w := &wave{first: make(chan struct{}), answers: map[uint64]bool{}}
	ctx, cancel := context.WithTimeout(context.Background(), sameWithin)
	t.Cleanup(func() { cancel(); w.joined.Wait() })
	for i := range sameKeys {
		caller := c.Caller(c.Nodes[i%len(c.Nodes)])
		w.joined.Go(func() {
			var got api.Acquired
			answer, err := caller.Do(ctx, request)
			if err = errors.Join(err, answer.Into(&got)); err == nil && len(got.Grants) != 1 {
				err = fmt.Errorf("answered %s", answer.Body)
			}
			w.once.Do(func() { close(w.first) })
			w.mu.Lock()
			defer w.mu.Unlock()
			if err != nil {
				w.wrong = append(w.wrong, err)
				return
			}
			w.answers[got.Grants[0].Token] = true
		})
	}
	return w
}

// tokens are the distinct answers, when all have come.
func (w *wave) tokens(t *testing.T) map[uint64]bool {
	t.Helper()
	w.joined.Wait()
	for _, err := range w.wrong[:min(len(w.wrong), complaintsMax)] {
		t.Errorf("%d of the hundred failed, such as: %v", len(w.wrong), err)
	}
	return w.answers
}
