// Package rediscache writes rendered rows to Redis and reads them back. It never decides what a key should hold: mapping renders, the
// outbox orders, this package makes one Redis server obey that order.
//
// # Invariants
//
//	R1 A write reaches its data key only with a token greater than the guard's. The guard's token never falls while the guard lives.
//	R2 A write whose Begin came before an invalidate of its key is refused: what it carries may have been read before the change.
//	R3 A write that reaches the server more than Deadline after its Begin, on the server's own clock, is refused. So a packet that was
//	   stuck on the way, or sent by a leader that is none any more, changes nothing, and a guard needs to outlive only the deadline.
//	R4 Begin and Apply of one Batch run on one TCP connection. Nothing here re-dials, retries or follows a redirect: a new connection may
//	   lead to another server, whose clock and guards know nothing of this Begin.
//	R5 No answer means OutcomeUnknown, never "not written".
//	R6 A Sweep gives no key that does not begin with the literal beginning of its pattern, whatever the server answers.
//	   (TestSweep_KeysThatTheServerShouldNotHaveGivenAreNotTaken)
//
// The guard is a hash beside the data key, in the same cluster slot: t the token of the last write, b the server's milliseconds at the
// last invalidate, l and x a reader's lease (its id and its end), which every write and every invalidate clears. A deleted row leaves the
// guard alone behind: a tombstone that refuses older writes until it expires.
//
// # Ownership
//
// A Target owns its pool and may be shared. A Batch owns one connection, belongs to one goroutine, and must be closed. No goroutine of
// this package outlives a call; the pool's end with Target.Close.
//
// # Time
//
// Only the server's clock decides. The local monotonic clock serves as a witness: if the server's clock advanced less than ours between
// Begin and Apply, it was set back, and a comparison with b would mean nothing, so the write counts as too late.
//
// # Failure
//
// Any error ends the batch (ErrBatchOver) and names its class beside it: ErrUnreachable, ErrNotPrimary, ErrSnooze, ErrOutOfMemory,
// ErrDenied, ErrUnexpected. Outcomes that were read before it stand, the others are unknown; the caller starts again at Begin, which is
// harmless, because a token that was written after all answers OutcomeSuperseded. The one repair made here is a script that the server forgot.
//
// # Limits
//
// The constants in config.go. A script call carries many keys, since one call a key is half as fast, but is cut by count and bytes, since
// a running script blocks every client of the server.
//
// The bytes of a Read are bounded only by what the keys hold: choose fewer keys where values are large.
//
// # Account
//
// The Redis account needs its keys and guards (~pattern) and: hello time info evalsha script|load type get hgetall pttl set hset hdel hget
// hmget unlink persist pexpire, scan and dbsize for cleanups, and select for a database other than 0.
//
// # Not here
//
// Values from a server that lost writes (failover, restart without a log) come back without their guards: Identity lets the caller see it,
// a reconciliation pass repairs it. Redis Sentinel, Cluster, replication confirmation and TLS are absent.
package rediscache
