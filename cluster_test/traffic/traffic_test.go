package traffic

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestBalancer_GivesReadyBackendsInTurn(t *testing.T) {
	t.Parallel()
	up := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(up.Close)
	down := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	t.Cleanup(down.Close)
	b := NewBalancer(t.Context())
	t.Cleanup(b.Close)
	b.Put("a", up.URL)
	b.Put("b", down.URL)
	b.Put("c", up.URL+"/c")
	awaitReady(t, b, 2)
	first, _ := b.Pick("")
	second, _ := b.Pick("")
	third, _ := b.Pick(second)
	if first == second || first == down.URL || second == down.URL || third != first {
		t.Errorf("picked %s, %s, %s", first, second, third)
	}
}

// The least that was ready is remembered, also when it was for a moment only.
func TestBalancer_RemembersTheLeastThatWasReady(t *testing.T) {
	t.Parallel()
	var asked int
	flickers := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked++; asked == 3 { // one poller asks, one question after the other
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(flickers.Close)
	b := NewBalancer(t.Context())
	t.Cleanup(b.Close)
	b.Put("a", flickers.URL)
	awaitReady(t, b, 1)
	b.Watch()
	await(t, "the flicker to be seen", func() bool { return b.LeastReady() == 0 })
	awaitReady(t, b, 1)
	b.Watch()
	if b.LeastReady() != 1 {
		t.Error("an old flicker counts in a new watch")
	}
}

// What net/http itself would repeat is told as a cut.
func TestExchange_ReadThatWasSentTwiceIsCut(t *testing.T) {
	t.Parallel()
	requests := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if requests++; requests == 2 { // on the connection that the first one left open
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, "{}")
	}))
	t.Cleanup(server.Close)
	through := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(through.CloseIdleConnections)
	for n, want := range []Class{OK, Cut} {
		if got := Classify(Exchange(t.Context(), through, http.MethodGet, server.URL, nil)); got != want {
			t.Errorf("request %d: %s, want %s", n, got, want)
		}
	}
}

func awaitReady(t *testing.T, b *Balancer, n int) {
	t.Helper()
	await(t, "ready backends", func() bool { return b.AllReady(n)(t.Context()) == "" })
}

func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	limit := time.NewTimer(10 * time.Second)
	defer limit.Stop()
	for !holds() {
		select {
		case <-ticker.C:
		case <-limit.C:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
