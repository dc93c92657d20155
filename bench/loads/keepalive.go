package loads

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/bench/load"
	"github.com/quiescehq/quiesce/bench/wire"
)

// KeepalivesPerTTL is how often the client library renews a session.
const KeepalivesPerTTL = 3

// Sessions are sessions that are kept alive in batches, over one connection.
type Sessions struct {
	caller  *caller
	ids     []string
	batches [][]byte // bodies of keepalives
}

// NewSessions connects. Run names this use, as in NewWire.
func NewSessions(ctx context.Context, addr, run string) (*Sessions, error) {
	c, err := dialCaller(ctx, addr, run)
	return &Sessions{caller: c}, err
}

// Open opens sessions in batches of the most that a keepalive may name, and renews those that were opened before.
func (s *Sessions) Open(n int, ttl time.Duration) error {
	renewed := time.Now()
	for n > 0 {
		size := min(n, api.KeepaliveIDsMax)
		if err := s.openBatch(size, ttl); err != nil {
			return fmt.Errorf("with %d sessions: %w", len(s.ids), err)
		}
		n -= size
		if time.Since(renewed) > ttl/KeepalivesPerTTL {
			renewed = time.Now()
			for i := range s.batches {
				if err := s.Renew(i); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (s *Sessions) openBatch(size int, ttl time.Duration) error {
	body, err := json.Marshal(api.OpenSession{TTLMs: uint64(ttl.Milliseconds())})
	if err != nil {
		return err
	}
	batch := api.Batch{Ops: slices.Repeat([]api.BatchOp{{Op: api.OpOpenSession, Body: body}}, size)}
	var answer api.BatchAnswer
	if err := s.caller.askUnkeyed("/v1/batch", batch, &answer); err != nil {
		return err
	}
	var opened []string
	for _, r := range answer.Results {
		var one api.Session
		if r.Problem != nil {
			return fmt.Errorf("%w: %s", ErrRefused, r.Problem.Detail)
		}
		if err := json.Unmarshal(r.Body, &one); err != nil {
			return err
		}
		opened = append(opened, one.ID)
	}
	keepalive, err := json.Marshal(api.KeepaliveSessions{IDs: opened})
	s.ids, s.batches = append(s.ids, opened...), append(s.batches, keepalive)
	return err
}

// Batches is how many keepalives renew all sessions.
func (s *Sessions) Batches() int { return len(s.batches) }

// Renew sends one keepalive. It fails unless all its sessions live.
func (s *Sessions) Renew(batch int) error {
	answer, err := s.caller.exchange(wire.Request{Method: http.MethodPost, Path: "/v1/sessions/keepalive", Body: s.batches[batch]})
	if err != nil {
		return err
	}
	return allLive(answer)
}

// allLive looks for the word that an answer has for a lost session: to decode 1,000 of them would cost this side more than the server.
func allLive(answer []byte) error {
	if bytes.Contains(answer, []byte(`"gone":true`)) {
		return fmt.Errorf("%w: a session is gone", ErrRefused)
	}
	return nil
}

// Measure renews the first batch again and again. The first calls are not counted.
func (s *Sessions) Measure(ctx context.Context, l load.Loop) (load.Sample, error) {
	l.Workers = 1
	return load.Run(ctx, l, func(context.Context, int) error { return s.Renew(0) })
}

// Keep renews all sessions as often as the client library would, evenly spread, for some time.
func (s *Sessions) Keep(ctx context.Context, ttl, during time.Duration) error {
	ticker := time.NewTicker(ttl / KeepalivesPerTTL / time.Duration(len(s.batches)))
	defer ticker.Stop()
	end := time.NewTimer(during)
	defer end.Stop()
	for next := 0; ; next = (next + 1) % len(s.batches) {
		select {
		case <-ticker.C:
		case <-end.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := s.Renew(next); err != nil {
			return err
		}
	}
}

// Close closes the sessions, some in one request, and the connection.
func (s *Sessions) Close() error {
	defer func() { _ = s.caller.conn.Close() }()
	for ids := range slices.Chunk(s.ids, api.BatchOpsMax) {
		var batch api.Batch
		for _, id := range ids {
			batch.Ops = append(batch.Ops, api.BatchOp{Op: api.OpCloseSession, ID: id})
		}
		var answer api.BatchAnswer
		if err := s.caller.askUnkeyed("/v1/batch", batch, &answer); err != nil {
			return err
		}
	}
	return nil
}
