package client

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quiescehq/quiesce/api"
)

const (
	requestTimeoutDefault = 3 * time.Second
	retryForDefault       = 15 * time.Second
	clientIDBytes         = 12 // random; every operation carries it, so it is as short as chance allows

	connsPerNode = 64 // kept alive; more callers than that are better served by joined calls
	idleTimeout  = 90 * time.Second
	dialTimeout  = 2 * time.Second
)

// ErrConfig says that a Config cannot work.
var ErrConfig = errors.New("client: configuration")

// Config says where the cluster is and how patient calls are. Only Addrs is needed.
type Config struct {
	Addrs          []string      // host:port or base URL of some nodes; the leader is found from any of them
	ClientID       string        // names this process in idempotency keys; drawn at random when empty, and never shared by two processes
	HTTPClient     *http.Client  // nil: one of our own. Its Timeout should be 0, attempts have their own
	Logger         *slog.Logger  // nil: silent
	RequestTimeout time.Duration // of one attempt, 0 for 3 s; a request that waits for a lock gets its waiting time on top
	RetryFor       time.Duration // how long after the first failed attempt a call goes on trying, 0 for 15 s
}

// Client calls a Quiesce cluster. It is safe for concurrent use; end it with Close.
type Client struct {
	id             string
	http           *http.Client
	nodes          *nodes
	keys           *keys
	log            *slog.Logger
	requestTimeout time.Duration
	retryFor       time.Duration
	outbox         *joiner
	batches        *batches
	nudges         *nudger
	keeper         *keeper
	owners         atomic.Uint64 // last drawn
	reclaims       chan struct{} // bounds the goroutines of reclaim

	life   context.Context
	end    context.CancelCauseFunc
	joined sync.WaitGroup
}

// New makes a client. It does not connect: the first call does.
func New(c Config) (*Client, error) {
	nodes, err := newNodes(c.Addrs)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if c.ClientID == "" {
		c.ClientID = randomID()
	}
	if len(c.ClientID) > api.IdempotencyClients || strings.ContainsFunc(c.ClientID, notInClientID) {
		return nil, fmt.Errorf("%w: ClientID must be at most %d visible ASCII characters but slash, quote and backslash", ErrConfig, api.IdempotencyClients)
	}
	if c.RequestTimeout < 0 || c.RetryFor < 0 {
		return nil, fmt.Errorf("%w: RequestTimeout and RetryFor must not be negative", ErrConfig)
	}
	cl := &Client{
		id: c.ClientID, http: c.HTTPClient, nodes: nodes, keys: newKeys(), log: c.Logger,
		requestTimeout: orDefault(c.RequestTimeout, requestTimeoutDefault), retryFor: orDefault(c.RetryFor, retryForDefault),
	}
	if cl.http == nil {
		cl.http = newHTTPClient()
	}
	if cl.log == nil {
		cl.log = slog.New(slog.DiscardHandler)
	}
	cl.life, cl.end = context.WithCancelCause(context.Background())
	cl.outbox = &joiner{client: cl}
	cl.batches = &batches{client: cl}
	cl.nudges = &nudger{client: cl, sources: map[string]*nudges{}}
	cl.reclaims = make(chan struct{}, reclaimsMax)
	cl.keeper = newKeeper(cl)
	return cl, nil
}

// ErrClosed is the cause of what Close cut short.
var ErrClosed = errors.New("client: closed")

// Close ends the calls that run in the background and waits for them. Close sessions and leave before it.
func (c *Client) Close() {
	c.outbox.close()
	c.batches.close()
	c.nudges.close()
	c.keeper.close()
	c.end(ErrClosed)
	c.joined.Wait()
	c.http.CloseIdleConnections()
}

func orDefault(d, other time.Duration) time.Duration {
	if d == 0 {
		return other
	}
	return d
}

func notInClientID(r rune) bool { return r <= ' ' || r > '~' || r == '/' || r == '"' || r == '\\' }

// nextOwner gives each attempt to take a lock an owner of its own, so that two callers of one session wait for each other, and the
// cluster knows who waits for whom.
func (c *Client) nextOwner() string { return strconv.FormatUint(c.owners.Add(1), 36) }

func randomID() string {
	var id [clientIDBytes]byte
	_, _ = rand.Read(id[:]) // never fails: the runtime ends the process if the system has no randomness
	return base64.RawURLEncoding.EncodeToString(id[:])
}

// newHTTPClient keeps more idle connections per node than the default of two, which would close and open one for nearly each concurrent
// call. Redirects are not followed: nodes forward by themselves, so one would come from somebody else.
func newHTTPClient() *http.Client {
	dialer := &net.Dialer{Timeout: dialTimeout}
	return &http.Client{
		Transport: &http.Transport{
			DialContext:         dialer.DialContext,
			DisableCompression:  true, // answers are small, and time is what counts
			MaxIdleConns:        4 * connsPerNode,
			MaxIdleConnsPerHost: connsPerNode,
			IdleConnTimeout:     idleTimeout,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
