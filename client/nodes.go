package client

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	addrsMax = 64
	// avoidFor is how long a leader's address that did not answer is not believed again. Behind a router that shows only the configured
	// addresses, every answer would otherwise send the next call to a place that cannot be reached.
	avoidFor = 5 * time.Second
)

// nodes chooses the node that is asked next: the leader if an answer named it, else the configured addresses in turn.
type nodes struct {
	scheme string

	mu         sync.Mutex
	addrs      []string
	turn       int
	leader     string
	avoid      string
	avoidUntil time.Time
}

func newNodes(addrs []string) (*nodes, error) {
	if len(addrs) == 0 || len(addrs) > addrsMax {
		return nil, fmt.Errorf("client: between 1 and %d addresses of nodes are needed, got %d", addrsMax, len(addrs))
	}
	n := &nodes{}
	for _, addr := range addrs {
		base, err := parseBase(addr)
		if err != nil {
			return nil, fmt.Errorf("client: address %q: %w", addr, err)
		}
		n.addrs = append(n.addrs, base.String())
		n.scheme = base.Scheme
	}
	return n, nil
}

// parseBase accepts host:port and http(s)://host:port.
func parseBase(addr string) (*url.URL, error) {
	addr = strings.TrimRight(strings.TrimSpace(addr), "/")
	if !strings.Contains(addr, "://") {
		addr = "http://" + addr
	}
	base, err := url.Parse(addr)
	switch {
	case err != nil:
		return nil, err
	case base.Scheme != "http" && base.Scheme != "https":
		return nil, errors.New("the scheme must be http or https")
	case base.Host == "" || base.Path != "" || base.RawQuery != "" || base.User != nil:
		return nil, errors.New("expected host:port or http(s)://host:port")
	}
	return base, nil
}

func (n *nodes) leads(addr string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.leader == addr
}

func (n *nodes) pick() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.leader != "" {
		return n.leader
	}
	return n.addrs[n.turn%len(n.addrs)]
}

// failed moves on from a node. Many calls fail on one node together; only the first of them turns the ring.
func (n *nodes) failed(addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.leader == addr {
		n.leader, n.avoid, n.avoidUntil = "", addr, time.Now().Add(avoidFor)
	}
	if n.addrs[n.turn%len(n.addrs)] == addr {
		n.turn++
	}
}

// learn notes the leader that an answer named. A change of scheme is not followed: it would send credentials in the clear.
func (n *nodes) learn(leader string) {
	if leader == "" || n.leads(leader) {
		return
	}
	base, err := parseBase(leader)
	if err != nil || base.Scheme != n.scheme {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.avoid == base.String() && time.Now().Before(n.avoidUntil) {
		return
	}
	n.leader = base.String()
}
