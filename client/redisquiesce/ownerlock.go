package redisquiesce

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// OwnerLockTTLMin bounds the ttl of an OwnerLock: one that is renewed three times in it must live through a slow round trip.
	OwnerLockTTLMin = 300 * time.Millisecond

	renewalsPerTTL = 3
	marginPerTTL   = 10 // the holder stops that part of a ttl before Redis does
)

var (
	// ErrLocked says that somebody else holds an OwnerLock.
	ErrLocked = errors.New("the lock is held by another")
	// ErrNotOwner says that an OwnerLock is not this holder's any more.
	ErrNotOwner = errors.New("the lock is not held by this owner")
)

// The scripts take the key, and the owner and the ttl in milliseconds where there is one. A key of another type is somebody else's.
var (
	// own takes the lock, also when it was taken already by an attempt whose answer was lost: go-redis asks again by itself.
	own = redis.NewScript(`
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1`)
	renew = redis.NewScript(`
if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])`)
	disown = redis.NewScript(`
if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('UNLINK', KEYS[1])`)
)

// OwnerLock is a lock made of SET NX PX, as it should be made: each holder has a name of its own, which release and renewal compare in Redis, so
// that nobody ends another's lock. It excludes whoever uses SET NX with the same key. It has no token that a resource could check, and a failover
// of Redis may give it to two: it is for those who come from SET NX. See docs/from-setnx.md.
type OwnerLock struct {
	client redis.UniversalClient
	key    string
	owner  string
	ttl    time.Duration

	held   context.Context // until the lock is lost or released
	lose   context.CancelCauseFunc
	joined sync.WaitGroup
}

// TryOwnerLock takes a lock, or answers ErrLocked. It is renewed until Release, on a goroutine of its own; so a holder that dies loses it after
// ttl at the latest. After any other error the lock may be taken for as long.
func TryOwnerLock(ctx context.Context, client redis.UniversalClient, key string, ttl time.Duration) (*OwnerLock, error) {
	if n := len(key); n == 0 || n > KeyBytesMax {
		return nil, fmt.Errorf("owner lock: %w: %d bytes, not 1 to %d", ErrKey, n, KeyBytesMax)
	}
	if ttl < OwnerLockTTLMin || ttl > math.MaxInt32*time.Millisecond {
		return nil, fmt.Errorf("owner lock %q: %w: a ttl of %s", key, ErrValue, ttl)
	}
	l := &OwnerLock{client: client, key: key, owner: rand.Text(), ttl: ttl}
	sent := time.Now()
	taken, err := own.Run(ctx, client, []string{key}, l.owner, ttl.Milliseconds()).Int()
	switch {
	case err != nil:
		l.giveUp(ctx)
		return nil, fmt.Errorf("owner lock %q: %w", key, err)
	case taken == 0:
		return nil, fmt.Errorf("owner lock %q: %w", key, ErrLocked)
	case time.Since(sent) >= l.reliable(): // the answer came when it may be another's already
		l.giveUp(ctx)
		return nil, fmt.Errorf("owner lock %q: %w: the answer took %s", key, ErrNotOwner, time.Since(sent))
	}
	l.held, l.lose = context.WithCancelCause(context.WithoutCancel(ctx))
	l.joined.Go(func() { l.keep(sent) })
	return l, nil
}

// TakeOwnerLock is TryOwnerLock again and again until ctx ends. There is no queue: who comes first when the lock is free has it.
func TakeOwnerLock(ctx context.Context, client redis.UniversalClient, key string, ttl time.Duration) (*OwnerLock, error) {
	for attempt := 1; ; attempt++ {
		l, err := TryOwnerLock(ctx, client, key, ttl)
		if !errors.Is(err, ErrLocked) {
			return l, err
		}
		if pause(ctx, pollAfter(attempt)) != nil {
			return nil, fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		}
	}
}

// reliable is how long a holder may rely on a lock or a renewal since it was sent.
func (l *OwnerLock) reliable() time.Duration { return l.ttl - l.ttl/marginPerTTL }

// keep renews until the lock is released or lost.
func (l *OwnerLock) keep(confirmed time.Time) {
	ticker := time.NewTicker(l.ttl / renewalsPerTTL)
	defer ticker.Stop()
	over := time.NewTimer(time.Until(confirmed.Add(l.reliable())))
	defer over.Stop()
	renewed := make(chan renewal, 1)
	asking := false
	for {
		select {
		case <-l.held.Done():
			return
		case <-over.C: // a server that does not answer, or a process that was stopped
			l.lose(fmt.Errorf("%w: it was not renewed in time", ErrNotOwner))
			return
		case <-ticker.C:
			if !asking {
				asking = true
				l.joined.Go(func() { renewed <- l.renewOnce(l.held) })
			}
		case r := <-renewed:
			asking = false
			if r.err != nil {
				continue // until the time is over
			}
			if !r.ours {
				l.lose(ErrNotOwner)
				return
			}
			over.Reset(time.Until(r.sent.Add(l.reliable())))
		}
	}
}

type renewal struct {
	sent time.Time
	ours bool
	err  error
}

func (l *OwnerLock) renewOnce(ctx context.Context) renewal {
	sent := time.Now()
	ours, err := renew.Run(ctx, l.client, []string{l.key}, l.owner, l.ttl.Milliseconds()).Int()
	return renewal{sent, ours == 1, err}
}

// Done is closed when the lock can no longer be relied on: it was lost, or released. A process that is stopped sees that late: what it writes then
// nobody refuses.
func (l *OwnerLock) Done() <-chan struct{} { return l.held.Done() }

// Err is nil while the lock is held, ErrNotOwner after it was lost or released.
func (l *OwnerLock) Err() error { return context.Cause(l.held) }

// Context gives one that ends with its parent, and when the lock can no longer be relied on; its cause is then ErrNotOwner.
func (l *OwnerLock) Context(parent context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(parent)
	context.AfterFunc(l.held, func() { cancel(context.Cause(l.held)) })
	return ctx
}

// Release gives the lock back and ends its goroutine. ErrNotOwner says that it was lost before, so that somebody else may have worked meanwhile;
// or that go-redis sent the release twice, because the first answer was lost. After any other error the lock ends by itself.
func (l *OwnerLock) Release(ctx context.Context) error {
	lost := l.Err()
	l.lose(ErrNotOwner)
	removed, err := disown.Run(ctx, l.client, []string{l.key}, l.owner).Int()
	l.joined.Wait()
	switch {
	case err != nil:
		return fmt.Errorf("release the owner lock %q: %w", l.key, err)
	case lost != nil:
		return fmt.Errorf("release the owner lock %q: %w", l.key, lost)
	case removed == 0:
		return fmt.Errorf("release the owner lock %q: %w", l.key, ErrNotOwner)
	}
	return nil
}

// giveUp removes a lock that may have been taken. It is best effort.
func (l *OwnerLock) giveUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseFor)
	defer cancel()
	_ = disown.Run(ctx, l.client, []string{l.key}, l.owner).Err() // else it expires
}
