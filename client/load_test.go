package client

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	loadClients = 8
	probePeriod = 25 * time.Millisecond
)

// load is what a balancer's clients see: keep-alive POSTs to backends that a probe found ready.
type load struct {
	http  *http.Client
	turn  atomic.Int64
	ready atomic.Pointer[[]string]

	ok, gated, refused, cut atomic.Int64

	stop   context.CancelFunc
	joined sync.WaitGroup
}

func startLoad(t *testing.T, backends ...string) *load {
	t.Helper()
	l := &load{http: &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 2 * loadClients}}}
	var ctx context.Context
	ctx, l.stop = context.WithCancel(context.Background())
	l.probe(ctx, backends)
	l.joined.Go(func() {
		ticker := time.NewTicker(probePeriod)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				l.probe(ctx, backends)
			}
		}
	})
	for range loadClients {
		l.joined.Go(func() {
			for ctx.Err() == nil {
				l.request(ctx)
			}
		})
	}
	t.Cleanup(l.end)
	return l
}

func (l *load) end() {
	l.stop()
	l.joined.Wait()
	l.http.CloseIdleConnections()
}

func (l *load) probe(ctx context.Context, backends []string) {
	var ready []string
	for _, b := range backends {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b+"/readyz", nil)
		if err != nil {
			panic(err)
		}
		response, err := l.http.Do(req)
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				ready = append(ready, b)
			}
		}
		cancel()
	}
	l.ready.Store(&ready)
}

func (l *load) request(ctx context.Context) {
	ready := *l.ready.Load()
	if len(ready) == 0 {
		return
	}
	backend := ready[int(l.turn.Add(1))%len(ready)]
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+backend+"/work", strings.NewReader("payload"))
	if err != nil {
		panic(err)
	}
	response, err := l.http.Do(req)
	if err == nil {
		_, err = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
	}
	var op *net.OpError
	switch {
	case ctx.Err() != nil:
	case errors.As(err, &op) && op.Op == "dial":
		l.refused.Add(1)
	case err != nil:
		l.cut.Add(1)
	case response.StatusCode == http.StatusServiceUnavailable:
		l.gated.Add(1)
	default:
		l.ok.Add(1)
	}
}
