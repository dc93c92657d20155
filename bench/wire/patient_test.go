package wire_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/bench/wire"
)

// script answers one request after another with a status; 0 cuts the connection, and a status below 0 closes it after the answer.
type script struct {
	mu       sync.Mutex
	statuses []int
	keys     []string
	remotes  []string
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = append(s.keys, r.Header.Get("Idempotency-Key")+" "+r.Header.Get("Idempotency-Acked"))
	s.remotes = append(s.remotes, r.RemoteAddr)
	status := s.statuses[0]
	s.statuses = s.statuses[1:]
	if status == 0 {
		panic(http.ErrAbortHandler)
	}
	if status < 0 {
		status = -status
		w.Header().Set("Connection", "close")
	}
	w.Header().Set("Quiesce-Index", "42")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, "done")
}

func patient(t *testing.T, s *script) *wire.Patient {
	t.Helper()
	server := httptest.NewServer(s)
	p := &wire.Patient{Addr: server.Listener.Addr().String(), Name: "c", Pause: time.Millisecond, Limit: 5 * time.Second}
	t.Cleanup(server.Close)
	t.Cleanup(p.Close) // first
	return p
}

func TestPatient_RepeatsUnderOneKeyWhatWasNotAnswered(t *testing.T) {
	t.Parallel()
	s := &script{statuses: []int{503, 0, 504, -200, 200}}
	p := patient(t, s)
	for range 2 {
		if answer, err := p.Post(t.Context(), "/", nil); err != nil || string(answer) != "done" {
			t.Fatalf("%q, %v", answer, err)
		}
		if index, ok := p.Field("quiesce-index"); !ok || index != "42" {
			t.Errorf("index %q", index)
		}
	}
	if want := []string{"c/1 1", "c/1 1", "c/1 1", "c/1 1", "c/2 2"}; !slices.Equal(s.keys, want) || p.Repeats != 3 {
		t.Errorf("keys %q after %d repeats, want %q", s.keys, p.Repeats, want)
	}
	// Dialled anew after the cut, and after the answer that closed.
	if r := s.remotes; r[0] != r[1] || r[1] == r[2] || r[2] != r[3] || r[3] == r[4] {
		t.Errorf("connections %q", r)
	}
}

func TestPatient_ARefusalIsNotRepeatedAndPatienceEndsWithTheContext(t *testing.T) {
	t.Parallel()
	s := &script{statuses: []int{409, 503, 503, 503, 503, 503, 503}}
	p := patient(t, s)
	if _, err := p.PostUnkeyed(t.Context(), "/", nil); !errors.Is(err, wire.ErrRefused) || len(s.keys) != 1 || s.keys[0] != " " {
		t.Errorf("%v after %q", err, s.keys)
	}
	p.Pause = time.Minute
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := p.PostUnkeyed(ctx, "/", nil); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, wire.ErrRefused) {
		t.Errorf("%v", err)
	}
}
