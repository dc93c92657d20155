package client

import (
	"context"
	"fmt"

	"github.com/quiescehq/quiesce/api"
)

// locking is what can be locked in the name of a session or an instance.
type locking struct {
	client  *Client
	current func() (*lease, error) // that a new lock is to belong to
}

// Want names a lock that LockMany is to take, and how.
type Want = api.LockWanted

// Exclusive wants names for one holder each.
func Exclusive(names ...string) []Want { return wantAll(api.ModeExclusive, names) }

// Shared wants names together with other shared holders.
func Shared(names ...string) []Want { return wantAll(api.ModeShared, names) }

// Permits wants n of the limit permits of a semaphore.
func Permits(name string, n, limit int) []Want {
	return []Want{{Name: name, Mode: api.ModePermits, Permits: uint64(max(0, n)), Limit: uint64(max(0, limit))}}
}

func wantAll(mode string, names []string) []Want {
	all := make([]Want, len(names))
	for i, name := range names {
		all[i] = Want{Name: name, Mode: mode}
	}
	return all
}

// Lock takes the exclusive lock of a name, waiting in a queue in the order of asking as long as ctx allows (see NoWait and WaitAtMost). It
// belongs to the lease of the session or instance and goes when that does. Two callers of one session wait for each other like strangers.
// A coordinator that is down, or a lease that may be over, is an error: exclusion is not assumed.
func (l *locking) Lock(ctx context.Context, name string, opts ...LockOption) (*Lock, error) {
	return l.lockOne(ctx, Want{Name: name}, opts)
}

// TryLock takes the exclusive lock of a name, or refuses at once with ErrLockHeld.
func (l *locking) TryLock(ctx context.Context, name string, opts ...LockOption) (*Lock, error) {
	return l.lockOne(ctx, Want{Name: name}, append(opts[:len(opts):len(opts)], NoWait()))
}

// LockMany takes up to 16 locks, all or none; callers that take theirs so never lock each other out, whatever order they name them in:
//
//	locks, err := session.LockMany(ctx, client.Exclusive("account/1", "account/2"))
func (l *locking) LockMany(ctx context.Context, want []Want, opts ...LockOption) (*Locks, error) {
	h, err := l.acquire(ctx, want, opts)
	if err != nil {
		return nil, err
	}
	return &Locks{h}, nil
}

func (l *locking) lockOne(ctx context.Context, want Want, opts []LockOption) (*Lock, error) {
	h, err := l.acquire(ctx, []Want{want}, opts)
	if err != nil {
		return nil, err
	}
	return &Lock{h}, nil
}

// RWLock gives the readers-writer lock of a name. It costs nothing until it is taken.
func (l *locking) RWLock(name string) *RWLock { return &RWLock{locking: l, name: name} }

// RWLock is a name that readers share and a writer has alone. Nobody overtakes: a reader that comes after a waiting writer waits too.
type RWLock struct {
	locking *locking
	name    string
}

// Lock takes the name for a writer, as [Session.Lock] does; see [Lock.Downgrade].
func (r *RWLock) Lock(ctx context.Context, opts ...LockOption) (*Lock, error) {
	return r.locking.Lock(ctx, r.name, opts...)
}

// RLock takes the name for a reader.
func (r *RWLock) RLock(ctx context.Context, opts ...LockOption) (*Lock, error) {
	return r.locking.lockOne(ctx, Want{Name: r.name, Mode: api.ModeShared}, opts)
}

// Semaphore gives the counting semaphore of a name. Whoever takes permits first sets the limit; while anybody holds or waits, another
// one is refused with ErrLimitMismatch.
func (l *locking) Semaphore(name string, limit int) *Semaphore {
	return &Semaphore{locking: l, name: name, limit: limit}
}

// Semaphore is a name with a number of permits.
type Semaphore struct {
	locking *locking
	name    string
	limit   int
}

// Acquire takes n permits, together, in the order of asking.
func (s *Semaphore) Acquire(ctx context.Context, n int, opts ...LockOption) (*Lock, error) {
	if n < 1 || n > s.limit {
		return nil, fmt.Errorf("lock %q: %w: %d permits of %d", s.name, ErrLockOptions, n, s.limit)
	}
	return s.locking.lockOne(ctx, Permits(s.name, n, s.limit)[0], opts)
}
