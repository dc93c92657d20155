package httpapi

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/quiescehq/quiesce/api"
)

const (
	dialMax          = time.Second
	leaderWaitMax    = time.Second
	leaderPoll       = 20 * time.Millisecond
	leaderConnsIdle  = 2048 // parked keepalives of instances hold one each
	leaderConnsMax   = 4_096
	forwardAnswerMax = writeMax
	// After Drain a forwarded request has this long to end by itself. A parked one would not: the leader does not know that the node in
	// between is going.
	forwardLingerMax = time.Second
	// A leader that was stopped, not killed, keeps its connections and answers nothing. Once another has led for this long nobody waits for
	// it any more. One that merely lost an election has answered by then.
	succeededLingerMax = 500 * time.Millisecond
	succeededPoll      = 100 * time.Millisecond
)

// forwarder hands requests to the leader.
type forwarder struct {
	s         *Server
	transport *http.Transport
	proxy     *httputil.ReverseProxy

	mu      sync.Mutex
	hops    map[*hop]struct{}
	lookout chan struct{} // closed when a leader is known, or nobody looked out for long; nil while nobody does
}

func newForwarder(s *Server) *forwarder {
	f := &forwarder{s: s, hops: map[*hop]struct{}{}, transport: &http.Transport{
		DialContext:           (&net.Dialer{Timeout: dialMax, KeepAlive: 15 * time.Second}).DialContext,
		MaxIdleConnsPerHost:   leaderConnsIdle,
		MaxConnsPerHost:       leaderConnsMax,
		IdleConnTimeout:       idleMax / 2, // shorter than the other side's, so that a request does not meet a connection that is being closed
		ResponseHeaderTimeout: forwardAnswerMax,
		DisableCompression:    true,
	}}
	f.proxy = &httputil.ReverseProxy{
		Transport: f.transport, Rewrite: f.rewrite, ErrorHandler: f.failed, FlushInterval: -1,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	return f
}

func (f *forwarder) close() { f.transport.CloseIdleConnections() }

// hop is one forwarded request.
type hop struct {
	leader *url.URL
	wrote  atomic.Bool // bytes of the request may have left
	cut    atomic.Bool // ended by Drain
	begun  time.Time
	cancel context.CancelFunc

	succeeded time.Time // when its leader was first seen not to lead any more; of forwarder.mu
}

type hopKey struct{}

// handle serves a request of the API here if this node leads or may answer from its own state, else hands it to the leader.
func (f *forwarder) handle(c *gin.Context) {
	if !strings.HasPrefix(c.FullPath(), "/v1/") || isStale(c.Request) {
		c.Next()
		return
	}
	leader, known := f.awaitLeader(c.Request.Context())
	switch {
	case !known:
		problem(api.CodeNoLeader, "nothing was applied: the cluster has no leader at the moment").write(c)
	case leader.Self:
		c.Next()
	case c.GetHeader(api.HeaderForwarded) != "":
		problem(api.CodeNotApplied, "nothing was applied: handed to a node that does not lead").write(c)
	case leader.HTTPAddr == "":
		problem(api.CodeNotApplied, "nothing was applied: the leader's address is not known yet").write(c)
	default:
		f.send(c, leader)
	}
}

func isStale(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.URL.RawQuery, "consistency") && r.URL.Query().Get("consistency") == api.Stale
}

// awaitLeader waits a moment for a leader to be known: an election is shorter than what it costs a client to come again.
func (f *forwarder) awaitLeader(ctx context.Context) (Leader, bool) {
	if l := f.s.rep.Leader(); l.ID != "" {
		return l, true
	}
	ctx, cancel := context.WithTimeout(ctx, leaderWaitMax)
	defer cancel()
	for {
		select {
		case <-f.lookOut():
			if l := f.s.rep.Leader(); l.ID != "" {
				return l, true
			}
		case <-f.s.draining:
			return Leader{}, false
		case <-ctx.Done():
			return Leader{}, false
		}
	}
}

// lookOut lets all that wait share one goroutine that looks: thousands of keepalives come back at once when their leader has gone, just
// while this node should elect.
func (f *forwarder) lookOut() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lookout == nil {
		f.lookout = make(chan struct{})
		go f.watchForLeader(f.lookout)
	}
	return f.lookout
}

// watchForLeader ends within leaderWaitMax; who still waits then begins another.
func (f *forwarder) watchForLeader(known chan struct{}) {
	ticker := time.NewTicker(leaderPoll)
	defer ticker.Stop()
	limit := time.NewTimer(leaderWaitMax)
	defer limit.Stop()
	for looking := true; looking && f.s.rep.Leader().ID == ""; {
		select {
		case <-ticker.C:
		case <-limit.C:
			looking = false
		case <-f.s.draining:
			looking = false
		}
	}
	f.mu.Lock()
	f.lookout = nil
	f.mu.Unlock()
	close(known)
}

func (f *forwarder) send(c *gin.Context, leader Leader) {
	raw := rawBody(c)
	h := &hop{leader: &url.URL{Scheme: "http", Host: leader.HTTPAddr}, begun: time.Now()}
	ctx, cancel := context.WithCancel(context.WithValue(c.Request.Context(), hopKey{}, h))
	defer cancel()
	h.cancel = cancel
	f.began(h)
	defer f.ended(h)
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteHeaderField: func(string, []string) { h.wrote.Store(true) },
	})
	r := c.Request.WithContext(ctx)
	switch {
	case len(raw) > 0:
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil }
	case !uploading(c):
		r.Body = http.NoBody
	}
	own := c.Writer.Header()
	for _, name := range []string{api.HeaderFeatureLevel, api.HeaderLeader, "X-Content-Type-Options", "Cache-Control"} {
		own.Del(name) // the leader's answer has them
	}
	c.Abort()
	if c.FullPath() == observePath || c.FullPath() == backupPath {
		_ = http.NewResponseController(c.Writer).SetWriteDeadline(time.Time{}) // the leader decides when a stream ends
	}
	f.proxy.ServeHTTP(c.Writer, r)
}

func (f *forwarder) began(h *hop) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hops[h] = struct{}{}
}

func (f *forwarder) ended(h *hop) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.hops, h)
}

// cutBegunBefore ends the hops that have lingered since then.
func (f *forwarder) cutBegunBefore(t time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for h := range f.hops {
		if h.begun.Before(t) {
			h.cut.Store(true)
			h.cancel()
		}
	}
}

// followLeader ends hops to a leader that has been succeeded.
func (f *forwarder) followLeader(ctx context.Context) {
	ticker := time.NewTicker(succeededPoll)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			if l := f.s.rep.Leader(); l.ID != "" {
				f.cutSucceeded(l.HTTPAddr, now)
			}
		case <-ctx.Done():
			return
		}
	}
}

func (f *forwarder) cutSucceeded(leader string, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for h := range f.hops {
		switch {
		case h.leader.Host == leader:
			h.succeeded = time.Time{}
		case h.succeeded.IsZero():
			h.succeeded = now
		case now.Sub(h.succeeded) >= succeededLingerMax:
			h.cancel()
		}
	}
}

func (f *forwarder) rewrite(r *httputil.ProxyRequest) {
	h := r.In.Context().Value(hopKey{}).(*hop)
	r.SetURL(h.leader)
	r.Out.Host = h.leader.Host
	r.Out.Header.Set(api.HeaderForwarded, f.s.cfg.Node)
}

// failed answers for a hop that brought no answer. Before the first byte was written nothing can have been applied; a read never applies
// anything.
func (f *forwarder) failed(w http.ResponseWriter, r *http.Request, err error) {
	h := r.Context().Value(hopKey{}).(*hop)
	p := problem(api.CodeOutcomeUnknown, "the leader fell silent: send the request again with the same idempotency key")
	switch {
	case r.Method == http.MethodGet && h.cut.Load():
		p = problem(api.CodeDraining, "this node is stopping: ask another")
	case r.Method == http.MethodGet || !h.wrote.Load():
		p = problem(api.CodeNotApplied, "nothing was applied: the leader could not be reached")
	}
	f.s.log.DebugContext(r.Context(), "forwarding failed", "leader", h.leader.Host, "err", err)
	p.writeTo(w)
}
