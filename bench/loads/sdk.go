package loads

import (
	"context"
	"errors"

	"github.com/quiescehq/quiesce/client"
)

// SDK is Quiesce through its client: one client, as a process has it.
type SDK struct {
	client   *client.Client
	sessions []*client.Session
}

// NewSDK opens sessions, which the workers share in turn.
func NewSDK(ctx context.Context, addrs []string, sessions int) (*SDK, error) {
	c, err := client.New(client.Config{Addrs: addrs})
	if err != nil {
		return nil, err
	}
	s := &SDK{client: c, sessions: make([]*client.Session, sessions)}
	err = each(sessions, func(i int) (err error) {
		s.sessions[i], err = c.OpenSession(ctx, "bench", sessionTTL)
		return err
	})
	if err != nil {
		return nil, errors.Join(err, s.Close(ctx))
	}
	return s, nil
}

// Lock is Session.Lock.
func (s *SDK) Lock(ctx context.Context, worker int, name string) (Unlock, error) {
	lock, err := s.sessions[worker%len(s.sessions)].Lock(ctx, name)
	if err != nil {
		return nil, err
	}
	return lock.Unlock, nil
}

// Close closes sessions and client.
func (s *SDK) Close(ctx context.Context) error {
	defer s.client.Close()
	return each(len(s.sessions), func(i int) error {
		if s.sessions[i] == nil {
			return nil
		}
		return s.sessions[i].Close(ctx)
	})
}
