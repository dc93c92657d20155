// Package redisquiesce makes a Redis client end with its instance, and lets Redis refuse the writes of a lock's former holder.
//
// # End with the instance
//
//	rdb := redis.NewClient(…)
//	if err := redisquiesce.Attach(app, rdb); err != nil {
//		return err
//	}
//
// [Attach] counts commands (redis_in_flight), closes the client after the locks were given back and the servers closed, and sends reads that
// block in short rounds, so that BLPOP without a timeout does not outlive a drain.
// (TestAttach_DrainEndsReadsLetsFlushesWriteAndClosesLast, TestAttach_ReadsThatBlockGoOnInShortRounds)
//
// # The fence
//
// It is for data whose truth is in Redis, or that the holder of a lock maintains there; a cache that follows MySQL is kept in step by the
// coordinator, and needs no lock. Each key that is written through a [Fence] has a guard beside it: a second key that holds the highest token seen. A script compares the
// writer's token with it and writes both, or nothing. See package fence for the reasons, and for the same in MySQL.
//
//	err := f.Set(ctx, lock.Token(), "report:2026", report, 0)
//	if errors.Is(err, fence.ErrFenced) {
//		… // somebody else holds the lock by now; nothing was changed
//	}
//
// # Invariants
//
//	R1 The guard's token never falls while the guard lives. (TestFence_HighestTokenStays)
//	R2 A key is written only under the token that its guard then holds. (TestFence_LowerTokenChangesNothing)
//	R3 The same token may write again and again.
//	R4 Key and guard are in one slot of Redis Cluster. (TestGuardKey_SharesTheSlotAndNoOtherKeysGuard)
//
// # Read after the fence, not before
//
// Until the new holder's token has reached Redis, the former one may still write. Call Advance when the lock is granted, then read, then
// write: nobody older can write in between.
//
// # The guard
//
// The guard of key is qf:{key}; that of a key with a hash tag, such as cart:{7}, is qf::cart:{7}. A key in which a brace is not part of
// a tag is refused with ErrKey: no guard could be in its slot. The guard is a string, the token in decimal; GuardKey names it for scripts of one's
// own. It lives on when its key expires or is deleted, and by default for ever: some 100 bytes a key. With GuardTTL it ends that long
// after its last use, and so does the protection: choose more than any process can be away, in days rather than minutes.
//
// A key has one kind of writer. What writes past the Fence is not compared, and the guards of the coordinator's own cache writes (qg:) are
// others.
//
// # Ownership
//
// A Fence borrows its client, holds no goroutine, and may be shared. An attached client is closed by the drain, or by the application
// before: twice does no harm.
//
// # Time
//
// None, but for the expiries that the caller sets; Redis counts those.
//
// # Failure
//
// fence.ErrFenced, with the tokens in *fence.FencedError; fence.ErrToken, ErrKey, ErrValue, ErrGuard: nothing was changed. An error that
// Redis answered means that the key is as it was. Any other error is that of go-redis, wrapped, and the outcome is unknown: the same call
// with the same token may be sent again, as go-redis itself does.
//
// Redis forgets. A restart without a log, or a failover, may bring back an older guard together with older data, or none; an eviction
// policy that begins with allkeys- may remove guards alone, and so may volatile-ones where GuardTTL is set. Where a lost update is worse
// than an outage, keep the truth in MySQL.
//
// # Limits
//
// HashFieldsMax fields a call; keys of 1–KeyBytesMax bytes.
//
// # Not here
//
// Subscriptions, which only their own Close ends: do so in phase consumers. A read that blocks over a connection that is dead without
// a word: go-redis waits for the time that the application gave, which for 0 is for ever.
//
// For the fence: several keys in one call, pipelines (the answer must be read before one goes on), other types: compare with GuardKey in a script.
package redisquiesce
