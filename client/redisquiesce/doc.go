// Package redisquiesce makes a Redis client end with its instance, lets Redis refuse the writes of a lock's former holder, and reads through a
// cache that the coordinator keeps in step.
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
// # Read through
//
//	cache, err := redisquiesce.NewCache(rdb)
//	value, err := cache.Fetch(ctx, "order:42", 10*time.Minute, func(ctx context.Context) ([]byte, error) { … }) // the row, rendered
//	…
//	err = cache.Invalidate(ctx, "order:42") // after a commit, then Enqueue
//
// A [Cache] is for mappings of mode invalidate and write_through_if_present: the coordinator removes or replaces what changed, readers bring
// values in. A reader that misses takes a lease in the guard that the coordinator has for the key (qg:{key}: fields l and x), loads, and fills in
// under the lease. Every change clears the lease.
//
//	C1 What was read before a change is never filled in after it, however slow the reader is.
//	   (TestFetch_FillOfWhatWasReadBeforeAChangeIsRefused; control: TestFetch_WithoutALeaseTheOldValueStays) A lease that is over fills nothing
//	   either. (TestFetch_ALeaseThatIsOverFillsNothing)
//	C2 A Fetch gives nothing that is older than an Invalidate that returned before the call, in whatever process.
//	   (TestFetch_WhoComesAfterAnInvalidateDoesNotJoinAnOlderLoad) FetchAfter gives nothing that is older than an event.
//	   (TestFetchAfter_TakesWhatTheEventHasReachedAndLoadsElse)
//	C3 One loads, the others wait, in one process and in all. (TestFetch_AStampedeOfThreeProcessesLoadsOnce) Who has waited for WaitFor loads
//	   without filling. (TestFetch_WhoHasWaitedLongEnoughLoadsAndFillsNothing)
//	C4 A load that fails, panics or is given up leaves no lease behind. (TestFetch_AFailedLoadGivesTheLeaseBack,
//	   TestFetch_WhatNobodyWaitsForIsGivenUp)
//	C5 A guard never lives shorter because of a reader. (TestCache_AGuardNeverLivesShorterBecauseOfAReader)
//	C6 Without Redis, loads go on, DirectLoads at a time. (TestFetch_WithoutRedisLoadsGoOnAFewAtATime)
//
// Where loads read from replicas, ask [FromPrimary] first: a lagging replica brings back what has just been removed, with a valid lease.
//
// # SET NX
//
// An [OwnerLock] is for those who come from SET NX: it compares its owner when it is renewed and released, and gives neither a token nor safety
// in a failover. docs/from-setnx.md leads away from it.
//
// # Ownership
//
// A Cache owns the goroutines of its loads; each ends with its load, and Close joins them. An
// OwnerLock owns the goroutine that renews it; Release joins it. A Fence borrows its client, holds no goroutine, and may be shared. An attached client is closed by the drain, or by the application
// before: twice does no harm.
//
// # Time
//
// Redis counts the expiries that the caller sets, and the leases. A Cache waits and bounds its loads on the local monotonic clock, and an
// OwnerLock counts on it from when a renewal was sent, a tenth of the ttl less.
//
// # Failure
//
// fence.ErrFenced, with the tokens in *fence.FencedError; fence.ErrToken, ErrKey, ErrValue, ErrGuard: nothing was changed. An error that
// Redis answered means that the key is as it was. Any other error is that of go-redis, wrapped, and the outcome is unknown: the same call
// with the same token may be sent again, as go-redis itself does.
//
// A Cache tells errors of Redis to its log and its Stats, and loads; a standalone server that did not answer is then left alone for a second.
// Give its client short timeouts. Errors of loads are the caller's. A failover of Redis may lose an invalidate and keep an older lease; the
// event, which the coordinator delivers again, or its pass repairs that.
//
// Redis forgets. A restart without a log, or a failover, may bring back an older guard together with older data, or none; an eviction
// policy that begins with allkeys- may remove guards alone, and so may volatile-ones where GuardTTL is set. Where a lost update is worse
// than an outage, keep the truth in MySQL.
//
// # Limits
//
// HashFieldsMax fields a call; keys of 1–KeyBytesMax bytes; FetchKeysMax keys a FetchMany, which shares loads by leases alone. A Cache takes
// strings, not hashes, and keys whose braces are hash tags.
//
// # Not here
//
// Subscriptions, which only their own Close ends: do so in phase consumers. A read that blocks over a connection that is dead without
// a word: go-redis waits for the time that the application gave, which for 0 is for ever.
//
// For the fence: several keys in one call, pipelines (the answer must be read before one goes on), other types: compare with GuardKey in a script.
package redisquiesce
