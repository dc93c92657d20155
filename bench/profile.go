package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
)

type stopFunc = func(context.Context) error

func noStop(context.Context) error { return nil }

// profile takes CPU profiles of the leader, of a follower, and of this process, which is the client, until stop is called.
func (b *bench) profile(ctx context.Context, name string) (stop stopFunc, err error) {
	if err := os.MkdirAll(b.profiles, 0o700); err != nil {
		return nil, err
	}
	leader, err := b.quiesce.Leader(ctx)
	if err != nil {
		return nil, err
	}
	var stops []stopFunc
	stop = func(ctx context.Context) error {
		var errs []error
		for _, one := range stops {
			errs = append(errs, one(ctx))
		}
		return errors.Join(errs...)
	}
	roles := map[string]int{"leader": leader}
	if nodes := len(b.quiesce.Addrs); nodes > 1 {
		roles["follower"] = (leader + 1) % nodes
	}
	for role, node := range roles {
		one, err := b.profileNode(node, filepath.Join(b.profiles, fmt.Sprintf("%s-%s.pprof", name, role)))
		if err != nil {
			return nil, errors.Join(err, stop(ctx))
		}
		stops = append(stops, one)
	}
	one, err := profileSelf(filepath.Join(b.profiles, name+"-client.pprof"))
	if err != nil {
		return nil, errors.Join(err, stop(ctx))
	}
	stops = append(stops, one)
	return stop, nil
}

func (b *bench) profileNode(node int, to string) (stopFunc, error) {
	stop, err := b.quiesce.Profile(node)
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

func profileSelf(to string) (stopFunc, error) {
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
