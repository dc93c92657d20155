// Package rediscache writes rendered rows to Redis and reads them back. It never decides what a key should hold: mapping renders, the
// outbox orders, this package makes one Redis server obey that order.
//
// # Invariants
//
//	R1 A write reaches its data key only with a token greater than the guard's. The guard's token never falls while the guard lives.
//	   (TestApply_NewerTokenWinsAndOlderOrSameIsSuperseded, TestApply_AnyOrderOfTokensEndsWithTheNewest)
//	R2 A write whose Begin came before an invalidate of its key is refused: what it carries may have been read before the change.
//	   (TestInvalidate_RefusesWriteThatBeganBefore)
//	R3 A write that reaches the server more than Deadline after its Begin, on the server's own clock, is refused. So a packet that was
//	   stuck on the way, or sent by a leader that is none any more, changes nothing, and a guard needs to outlive only the deadline.
//	   (TestApply_LatePacketIsRefusedByTheDeadline)
//	R4 Begin and Apply of one Batch run on one TCP connection for each server. Nothing here re-dials, retries or follows a redirect: a new
//	   connection may lead to another server, whose clock and guards know nothing of this Begin. A redirect ends the share of its server,
//	   and no other. (TestBatch_KilledConnectionEndsIt, TestCluster_SlotThatMovesBetweenBeginAndApplyEndsItsServersPartAlone,
//	   TestCluster_FailoverBetweenBeginAndApplyEndsItsServersPartAlone, TestCluster_SlotUnderWayIsNotFollowed)
//	R5 No answer means OutcomeUnknown, never "not written". (TestApply_RepliesReadBeforeTheConnectionBrokeAreKept)
//	R6 A Sweep gives no key that does not begin with the literal beginning of its pattern, whatever the server answers.
//	   (TestSweep_KeysThatTheServerShouldNotHaveGivenAreNotTaken)
//	R7 A server is written to, swept and, behind sentinels, read only if it called itself the primary on that connection, whoever named it.
//	   (TestSentinel_ServerThatIsNoPrimaryIsNotBelieved, TestBatch_ReplicaTakesNoWrites)
//	R8 With Confirm, OutcomeApplied and OutcomeSuperseded mean that enough servers have what the guard tells of. Who asks is the connection that
//	   wrote: asked over another one, a server may say that nothing is missing. (TestConfirm_FrozenReplicaLeavesWritesUnconfirmed,
//	   TestConfirm_SupersededIsDurableOnlyIfTheNewerWriteIs)
//	R9 An Identity's Life changes when a server restarts, another one takes over, or slots move. (TestTarget_EveryKindConforms,
//	   TestServer_RestartWithAnOldDumpShowsInTheLifeAndInDurableSince, TestCluster_SlotThatMovesDuringASweepEndsIt)
//
// All kinds of target do the same: TestTarget_EveryKindConforms.
//
// The guard is a hash beside the data key, in the same cluster slot: t the token of the last write, b the server's milliseconds at the
// last invalidate, l and x a reader's lease (its id and its end), which every write and every invalidate clears. A deleted row leaves the
// guard alone behind: a tombstone that refuses older writes until it expires. So does an if-present write of a key that is absent.
//
// # Kinds
//
// A standalone server is where its address leads. Sentinels are asked for the primary before a Begin when there is none known, when the last one
// failed, and every five seconds; all at once, and the latest failover that a majority knows of counts (TestSentinel_LatestFailoverCounts,
// TestSentinel_ReplacedPrimaryIsLeftWithoutAnError). A cluster's nodes are asked for its
// slots when there is no map, or the last one led to an error; never on the strength of a redirect.
//
// In a cluster a call of a script takes keys of one slot, so it mostly takes one. A Batch has one connection to each primary that its keys live on;
// what fails there costs those keys, the other outcomes stand.
//
// # Ownership
//
// A Target owns its pools, one a server, and may be shared. A Batch owns its connections, belongs to one goroutine, and must be closed. No goroutine of
// this package outlives a call; the pools end with Target.Close, or when their server has left the target.
//
// # Time
//
// Only the server's clock decides, and each server's for its own keys. The local monotonic clock serves as a witness: if the server's clock advanced
// less than ours between Begin and Apply, it was set back, and a comparison with b would mean nothing, so the write counts as too late.
//
// Where a replica or another primary takes over, its clock goes on with a b of another clock. Every Begin there comes after every invalidate of the
// old server; so a clock that is behind refuses writes until it has caught up, and none that is ahead lets a stale one pass.
//
// # Failure
//
// Any error ends the batch, in a cluster for the server's own keys (ErrBatchOver), and names its class beside it: ErrUnreachable, ErrNotPrimary,
// ErrSnooze, ErrOutOfMemory, ErrUnconfirmed, ErrDenied, ErrConfig, ErrUnexpected. Outcomes that were read before it stand, the others are unknown;
// the caller starts again at Begin, which is harmless, because a token that was written after all answers OutcomeSuperseded. The one repair made
// here is a script that the server forgot.
//
// What a server acknowledged may still be lost when it restarts or a replica takes over, and old values come back without their guards. Life shows
// that it happened; Server.DurableSince says since when, as far as the server tells; a reconciliation pass repairs. A failover keeps what is below
// the Offset of the replica that took over.
//
// Under maxmemory-policy volatile-ttl or *-random a server takes guards, which all have a TTL, before the data, and with a guard goes the order:
// TestEviction_VolatileTTLTakesGuardsBeforeData shows an older write land. Whoever accepts mappings has to refuse write-through there.
//
// # Limits
//
// The constants in config.go. A script call carries many keys, since one call a key is half as fast, but is cut by count and bytes, since
// a running script blocks every client of the server.
//
// The bytes of a Read are bounded only by what the keys hold: choose fewer keys where values are large.
//
// A primary that has been without replicas for an hour changes its replication id, and with it Life: a false alarm.
//
// # Account
//
// The Redis account needs its keys and guards (~pattern) and: hello time info evalsha script|load type get mget hgetall pttl set hset hdel hget
// hmget unlink persist pexpire, scan and dbsize for cleanups, select for a database other than 0, cluster|slots in a cluster, wait or waitaof
// with Confirm. With config|get it tells how durable an append-only file is; without, it counts as not durable at all. The account at the sentinels
// needs sentinel|get-master-addr-by-name and sentinel|master.
//
// # Not here
//
// TLS. Who decides what a changed Life means. Reads of replicas.
package rediscache
