package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/quiescehq/quiesce/api"
)

const (
	headerReadMax = 5 * time.Second
	bodyReadMax   = 10 * time.Second
	idleMax       = 2 * time.Minute
	// A parked request writes after api.ParkMaxMs at the latest; the rest is for a slow reader.
	writeMax = (api.ParkMaxMs + 30_000) * time.Millisecond
	// net/http answers 431 by itself and without a problem when a header block passes this; the edge refuses at api.HeaderBytesMax.
	headerBytesHard = 4 * api.HeaderBytesMax
	closeMax        = 5 * time.Second
	inFlightPoll    = 5 * time.Millisecond
)

// Config is what a Server is made of. Replica and Mappings are needed, the rest may be left out.
type Config struct {
	Node     string
	Version  string
	Replica  Replica
	Mappings Mappings
	Stores   Stores
	Outbox   Outbox
	Relays   Relays
	Passes   Passes
	Backups  Backups
	// Transactions is asked on the leader only.
	Transactions Transactions
	Collectors   []prometheus.Collector // served by /metrics beside the edge's own
	Log          *slog.Logger
	// DrainMax bounds how long Serve waits for requests in flight when its context ends. 0 means 10 s.
	DrainMax time.Duration
}

// Server is one node's HTTP edge.
type Server struct {
	cfg     Config
	rep     Replica
	log     *slog.Logger
	engine  *gin.Engine
	huma    huma.API
	metrics *metrics
	forward *forwarder
	ops     map[string]batchable // by the names of package api

	notReady  atomic.Pointer[string] // the reason; nil when ready
	inFlight  atomic.Int64
	streams   atomic.Int64
	parked    tickets
	reports   reports
	leaderURL leaderURL
	busy      map[string]func(*gin.Context) bool // see fast
	bodyMax   time.Duration                      // to read a body
	draining  chan struct{}                      // closed by the first Drain
	drain     sync.Once
}

// New makes a Server that is not ready yet; see SetReady.
func New(cfg Config) (*Server, error) {
	if cfg.Replica == nil || cfg.Mappings == nil {
		return nil, errors.New("httpapi: a replica and a mapping check are needed")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.DrainMax == 0 {
		cfg.DrainMax = 10 * time.Second
	}
	s := &Server{cfg: cfg, rep: cfg.Replica, log: cfg.Log, ops: map[string]batchable{}, parked: tickets{n: map[uint64]int{}}, reports: reports{of: map[string]report{}}, bodyMax: bodyReadMax, draining: make(chan struct{})}
	s.SetReady(false, "starting")
	var err error
	if s.metrics, err = newMetrics(s); err != nil {
		return nil, fmt.Errorf("httpapi: metrics: %w", err)
	}
	s.forward = newForwarder(s)
	s.busy = s.busyPaths()
	if err := s.build(); err != nil {
		return nil, fmt.Errorf("httpapi: routes: %w", err)
	}
	return s, nil
}

// Handler is the edge without a listener.
func (s *Server) Handler() http.Handler { return s.engine }

// SetReady decides what /readyz answers. The reason is for people.
func (s *Server) SetReady(ready bool, reason string) {
	if ready {
		s.notReady.Store(nil)
		return
	}
	s.notReady.Store(&reason)
}

// Drain ends every parked request with the answer from which it is taken up elsewhere, asks clients to close their connections, and
// waits until no request is in flight or ctx ends. New requests are served all the while: only closing the listener ends that.
func (s *Server) Drain(ctx context.Context) error {
	s.drain.Do(func() { close(s.draining) })
	linger := time.Now().Add(forwardLingerMax)
	ticker := time.NewTicker(inFlightPoll)
	defer ticker.Stop()
	for {
		if now := time.Now(); now.After(linger) {
			s.forward.cutBegunBefore(now.Add(-forwardLingerMax))
		}
		n := s.inFlight.Load()
		if n == 0 {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("%d requests in flight: %w", n, context.Cause(ctx))
		}
	}
}

func (s *Server) isDraining() bool {
	select {
	case <-s.draining:
		return true
	default:
		return false
	}
}

// Serve serves until ctx ends, then drains and closes. It returns when no connection is left; nil after a clean end.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	fresh := newFreshConns()
	srv := &http.Server{
		Handler: s.engine, ReadHeaderTimeout: headerReadMax, IdleTimeout: idleMax, WriteTimeout: writeMax, MaxHeaderBytes: headerBytesHard,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), ConnState: fresh.track,
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	g.Go(func() error {
		s.forward.followLeader(ctx)
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		return s.close(context.WithoutCancel(ctx), srv, fresh)
	})
	return g.Wait()
}

func (s *Server) close(ctx context.Context, srv *http.Server, fresh *freshConns) error {
	defer s.forward.close()
	drained, cancel := context.WithTimeout(ctx, s.cfg.DrainMax)
	defer cancel()
	if err := s.Drain(drained); err != nil {
		s.log.WarnContext(ctx, "closing with requests in flight", "err", err)
	}
	closing, cancel := context.WithTimeout(ctx, closeMax)
	defer cancel()
	fresh.close()
	if err := srv.Shutdown(closing); err != nil {
		return errors.Join(fmt.Errorf("httpapi: shut down: %w", err), srv.Close())
	}
	return nil
}

// freshConns are connections on which no request has come yet. http.Server.Shutdown waits five seconds for each of them, in case one is
// on its way; browsers and pools open such connections ahead of need, so they are closed here.
type freshConns struct {
	mu     sync.Mutex
	open   map[net.Conn]struct{}
	closed bool
}

func newFreshConns() *freshConns { return &freshConns{open: map[net.Conn]struct{}{}} }

func (f *freshConns) track(c net.Conn, state http.ConnState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if state != http.StateNew {
		delete(f.open, c)
		return
	}
	if f.closed {
		c.Close()
		return
	}
	f.open[c] = struct{}{}
}

func (f *freshConns) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for c := range f.open {
		c.Close()
	}
}
