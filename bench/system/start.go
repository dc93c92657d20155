package system

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/quiescehq/quiesce/bench/process"
)

// Members of a replicated system.
const Members = 3

const (
	readyMax  = 60 * time.Second
	readyPoll = 20 * time.Millisecond
	askMax    = 2 * time.Second
)

// ErrEnded says that a process ended before it was ready.
var ErrEnded = errors.New("system: a process ended")

// group is the processes of one system.
type group []*process.Process

func (g *group) start(s process.Spec) error {
	p, err := process.Start(s)
	if err == nil {
		*g = append(*g, p)
	}
	return err
}

func (g group) kill() error {
	var errs []error
	for _, p := range slices.Backward(g) {
		errs = append(errs, p.Kill())
	}
	return errors.Join(errs...)
}

func (g group) pids() []int {
	var out []int
	for _, p := range g {
		out = append(out, p.PID())
	}
	return out
}

// await polls until ready says so, a process has ended, or the time is up.
func (g group) await(ctx context.Context, what string, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, readyMax)
	defer cancel()
	ticker := time.NewTicker(readyPoll)
	defer ticker.Stop()
	for {
		asking, stop := context.WithTimeout(ctx, askMax)
		err := ready(asking)
		stop()
		if err == nil {
			return nil
		}
		for _, p := range g {
			select {
			case <-p.Ended():
				return fmt.Errorf("%w before %s was ready:\n%s", ErrEnded, what, p.Tail())
			default:
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("%s was not ready: %w (last: %w)", what, context.Cause(ctx), err)
		}
	}
}

// freeAddrs finds addresses that nobody listens on. They are held together while they are chosen, so that they differ.
func freeAddrs(n int) ([]string, error) {
	var addrs []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }()
		addrs = append(addrs, l.Addr().String())
	}
	return addrs, nil
}
