package system

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"syscall"
	"time"
)

// StopProfiles ends profiles and writes them.
type StopProfiles = func(context.Context) error

// Profiles takes CPU profiles of the leader, of a follower, and of this process, which is the client, until stop is called. Those of the
// nodes need a binary that was built for it. They are named after the case, in dir.
func (q *Quiesce) Profiles(ctx context.Context, dir, name string) (stop StopProfiles, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	leader, err := q.AwaitLeader(ctx)
	if err != nil {
		return nil, err
	}
	var stops []StopProfiles
	stop = func(ctx context.Context) error {
		var errs []error
		for _, one := range stops {
			errs = append(errs, one(ctx))
		}
		return errors.Join(errs...)
	}
	roles := map[string]int{"leader": leader}
	if nodes := len(q.Addrs); nodes > 1 {
		roles["follower"] = (leader + 1) % nodes
	}
	for role, node := range roles {
		one, err := q.profileNode(node, filepath.Join(dir, fmt.Sprintf("%s-%s.pprof", name, role)))
		if err != nil {
			return nil, errors.Join(err, stop(ctx))
		}
		stops = append(stops, one)
	}
	one, err := profileSelf(filepath.Join(dir, name+"-client.pprof"))
	if err != nil {
		return nil, errors.Join(err, stop(ctx))
	}
	stops = append(stops, one)
	return stop, nil
}

func (q *Quiesce) profileNode(node int, to string) (StopProfiles, error) {
	stop, err := q.profile(node)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		path, err := stop(ctx)
		if err != nil {
			return err
		}
		profile, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(to, profile, 0o600)
	}, nil
}

func profileSelf(to string) (StopProfiles, error) {
	file, err := os.Create(to)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return func(context.Context) error {
		pprof.StopCPUProfile()
		return file.Close()
	}, nil
}

// profile makes a node write a CPU profile until stop is called, which returns its path.
func (q *Quiesce) profile(node int) (stop func(context.Context) (string, error), err error) {
	if err := q.nodes[node].Signal(syscall.SIGUSR1); err != nil {
		return nil, err
	}
	return func(ctx context.Context) (string, error) {
		if err := q.nodes[node].Signal(syscall.SIGUSR2); err != nil {
			return "", err
		}
		return awaitFile(ctx, q.profileOf(node))
	}, nil
}

func (q *Quiesce) profileOf(node int) string {
	return filepath.Join(q.folder, fmt.Sprintf("n%d.cpu", node+1))
}

const profileMax = 5 * time.Second
