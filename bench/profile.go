package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime/pprof"
)

// profile takes CPU profiles of the leader and of this process, which is the client, until stop is called.
func (b *bench) profile(ctx context.Context, name string) (stop func(context.Context) error, err error) {
	if err := os.MkdirAll(b.profiles, 0o700); err != nil {
		return nil, err
	}
	leader, err := b.quiesce.Leader(ctx)
	if err != nil {
		return nil, err
	}
	file, err := os.Create(filepath.Join(b.profiles, name+"-client.pprof"))
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	stopLeader, err := b.quiesce.Profile(leader)
	if err != nil {
		pprof.StopCPUProfile()
		return nil, errors.Join(err, file.Close())
	}
	return func(ctx context.Context) error {
		pprof.StopCPUProfile()
		path, err := stopLeader(ctx)
		if err != nil {
			return errors.Join(err, file.Close())
		}
		profile, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(filepath.Join(b.profiles, name+"-leader.pprof"), profile, 0o600)
		}
		return errors.Join(err, file.Close())
	}, nil
}
