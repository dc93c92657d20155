package rediscache

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// sentinelAge is how long the sentinels' answer is believed while nothing fails: a primary that was cut off from them goes on to take writes.
	sentinelAge = 5 * time.Second

	sentinelTimeout = time.Second
	sentinelConns   = 2
)

// opinion is one sentinel's.
type opinion struct {
	addr  string
	epoch uint64 // grows with each failover
	err   error
}

// askSentinels asks all at once and goes by the one that knows the latest failover; it waits for no more than a majority. Nothing is believed yet:
// Begin has the server itself say that it is the primary.
func (f *fleet) askSentinels(ctx context.Context) (*layout, error) {
	ctx, cancel := context.WithTimeout(ctx, sentinelTimeout)
	answers := make(chan opinion, len(f.sentinels))
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	for _, sentinel := range f.sentinels {
		group.Go(func() { answers <- opinionOf(ctx, sentinel, f.config.MasterName) })
	}
	var best opinion
	var faults []error
	for sound := 0; sound <= len(f.sentinels)/2 && sound+len(faults) < len(f.sentinels); {
		answer := <-answers
		if answer.err != nil {
			faults = append(faults, answer.err)
			continue
		}
		if sound++; best.addr == "" || answer.epoch > best.epoch {
			best = answer
		}
	}
	if best.addr == "" {
		return nil, fmt.Errorf("ask %d sentinels for %q: %w", len(f.sentinels), f.config.MasterName, errors.Join(faults...))
	}
	return &layout{nodes: []*node{f.pool(best.addr)}}, nil
}

func opinionOf(ctx context.Context, sentinel *redis.SentinelClient, name string) opinion {
	addr, err := sentinel.GetMasterAddrByName(ctx, name).Result()
	switch {
	case errors.Is(err, redis.Nil):
		return opinion{err: fmt.Errorf("%w: a sentinel knows no such primary", ErrConfig)}
	case err != nil:
		return opinion{err: classifyNode(ctx, err)}
	case len(addr) != 2:
		return opinion{err: fmt.Errorf("%w: an address of %d parts", ErrUnexpected, len(addr))}
	}
	fields, err := sentinel.Master(ctx, name).Result()
	if err != nil {
		return opinion{err: classifyNode(ctx, err)}
	}
	epoch, _ := strconv.ParseUint(fields["config-epoch"], 10, 64) // without it one sentinel is as good as another
	return opinion{addr: net.JoinHostPort(addr[0], addr[1]), epoch: epoch}
}

// classifyNode takes the end of a timeout of ours for what it is: the server did not answer.
func classifyNode(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return classify(ctx, err)
}

// askCluster asks one node after another, each time beginning with another one, until one answers. A cluster's nodes agree sooner or later; who
// answers by an old map sends us to servers that refuse, and is asked last the next time.
func (f *fleet) askCluster(ctx context.Context) (*layout, error) {
	var faults []error
	for _, addr := range f.candidates() {
		if ctx.Err() != nil {
			break
		}
		n := f.pool(addr)
		found, err := n.client.ClusterSlots(ctx).Result()
		if err != nil {
			faults = append(faults, classify(ctx, err))
			continue
		}
		l, err := f.layoutOf(addr, found)
		if err == nil {
			return l, nil
		}
		faults = append(faults, err)
	}
	if len(faults) == 0 {
		return nil, ctx.Err()
	}
	return nil, fmt.Errorf("ask the cluster for its slots: %w", errors.Join(faults...))
}

// candidates are the nodes of the last layout and those of the configuration.
func (f *fleet) candidates() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	addrs := slices.Clone(f.config.Addrs)
	for addr := range f.pools {
		if !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}
	slices.Sort(addrs)
	turn := f.turn % len(addrs)
	return slices.Concat(addrs[turn:], addrs[:turn])
}

func (f *fleet) layoutOf(from string, found []redis.ClusterSlot) (*layout, error) {
	l := &layout{owner: new([slotCount]uint16)}
	addrs := make([]string, len(found))
	for i, slots := range found {
		if slots.Start < 0 || slots.End >= slotCount || slots.Start > slots.End || len(slots.Nodes) == 0 {
			return nil, fmt.Errorf("%w: slots %d to %d with %d servers", ErrUnexpected, slots.Start, slots.End, len(slots.Nodes))
		}
		addrs[i] = fullAddr(slots.Nodes[0].Addr, from) // the primary comes first
		n := f.pool(addrs[i])
		if !slices.Contains(l.nodes, n) {
			l.nodes = append(l.nodes, n)
		}
		if len(l.nodes) > mastersMax {
			return nil, fmt.Errorf("%w: more than %d primaries", ErrUnexpected, mastersMax)
		}
	}
	if len(l.nodes) == 0 {
		return nil, fmt.Errorf("%w: the cluster has given out no slot", ErrSnooze)
	}
	sortNodes(l.nodes)
	for i, slots := range found {
		at := slices.IndexFunc(l.nodes, func(n *node) bool { return n.addr == addrs[i] })
		for slot := slots.Start; slot <= slots.End; slot++ {
			l.owner[slot] = uint16(at) + 1
		}
	}
	return l, nil
}

// fullAddr puts in the host of the server that answered where an answer names none: it does not know its own.
func fullAddr(addr, from string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host != "" && host != "?" {
		return addr
	}
	host, _, _ = net.SplitHostPort(from)
	return net.JoinHostPort(host, port)
}
