package system

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/bench/process"
)

const (
	stopMax = 40 * time.Second // of a node that was asked to stop; its own bound is 25 s
	alive   = "alive"
	voter   = "voter"
)

// ErrNotWhole says what a cluster lacks.
var ErrNotWhole = errors.New("system: the cluster is not whole")

// PID of a node.
func (q *Quiesce) PID(node int) int { return q.nodes[node].PID() }

// Status is the cluster as a node sees it, without asking the others.
func (q *Quiesce) Status(ctx context.Context, node int) (api.Cluster, error) {
	var status api.Cluster
	body, err := q.get(ctx, q.Addrs[node], "/v1/cluster?consistency=stale")
	if err == nil {
		err = json.Unmarshal(body, &status)
	}
	return status, err
}

// Leader is the number of the node that leads, by the word of the first that answers.
func (q *Quiesce) Leader(ctx context.Context) (int, error) {
	var errs []error
	for node := range q.Addrs {
		status, err := q.Status(ctx, node)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for i := range q.Addrs {
			if status.Leader == name(i) {
				return i, nil
			}
		}
		errs = append(errs, fmt.Errorf("%s names %q as its leader", name(node), status.Leader))
	}
	return 0, errors.Join(errs...)
}

// AwaitLeader is Leader, with the patience that an election asks for.
func (q *Quiesce) AwaitLeader(ctx context.Context) (leader int, err error) {
	err = q.nodes.await(ctx, "a leader", func(ctx context.Context) (err error) {
		leader, err = q.Leader(ctx)
		return err
	})
	return leader, err
}

func name(node int) string { return fmt.Sprintf("n%d", node+1) }

// Transfer moves the leadership to another node.
func (q *Quiesce) Transfer(ctx context.Context) error {
	leader, err := q.Leader(ctx)
	if err != nil {
		return err
	}
	_, err = q.do(ctx, http.MethodPost, q.Addrs[leader], "/v1/cluster/transfer", http.StatusNoContent)
	return err
}

// Terminate asks a node to stop in its own way, and waits until it is gone.
func (q *Quiesce) Terminate(ctx context.Context, node int) error {
	if err := q.nodes[node].Signal(syscall.SIGTERM); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, stopMax)
	defer cancel()
	select {
	case <-q.nodes[node].Ended():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s did not stop: %w\n%s", name(node), context.Cause(ctx), q.nodes[node].Tail())
	}
}

// Crash kills a node.
func (q *Quiesce) Crash(node int) error { return q.nodes[node].Kill() }

// Restart starts a node that is gone again, as it was, and waits until all are voters and ready.
func (q *Quiesce) Restart(ctx context.Context, node int) error {
	p, err := process.Start(q.specs[node])
	if err != nil {
		return err
	}
	q.nodes[node] = p
	return q.nodes.await(ctx, "the Quiesce cluster", func(ctx context.Context) error { return errors.Join(q.ready(ctx), q.whole(ctx)) })
}

// whole looks at the members as each node knows them: all name one leader, and all members are live voters with its state.
func (q *Quiesce) whole(ctx context.Context) error {
	var leader string
	for node := range q.Addrs {
		status, err := q.Status(ctx, node)
		if err != nil {
			return err
		}
		voters := 0
		for _, n := range status.Nodes {
			if n.Status == alive && n.Suffrage == voter {
				voters++
			}
		}
		if node == 0 {
			leader = status.Leader
		}
		if voters != len(q.Addrs) || status.Leader != leader || leader == "" {
			return fmt.Errorf("%w: by %s, %d of %d nodes are live voters, and %q leads", ErrNotWhole, name(node), voters, len(q.Addrs), status.Leader)
		}
	}
	return nil
}

// Left tells whether a node has left the cluster, as another one knows it.
func (q *Quiesce) Left(ctx context.Context, node, by int) (bool, error) {
	status, err := q.Status(ctx, by)
	for _, n := range status.Nodes {
		if n.ID == name(node) {
			return n.Suffrage == "", err
		}
	}
	return true, err
}

// InFlight is how many requests a node is answering, the parked ones included.
func (q *Quiesce) InFlight(ctx context.Context, node int) (int, error) {
	n, err := q.Metric(ctx, node, "quiesce_http_in_flight")
	return int(n), err
}

// Metric is a figure that a node shows under a name, with its labels if it has any.
func (q *Quiesce) Metric(ctx context.Context, node int, name string) (float64, error) {
	body, err := q.get(ctx, q.Addrs[node], "/metrics")
	if err != nil {
		return 0, err
	}
	for line := range strings.SplitSeq(string(body), "\n") {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			var v float64
			_, err := fmt.Sscan(value, &v)
			return v, err
		}
	}
	return 0, fmt.Errorf("the node shows no %s", name)
}
