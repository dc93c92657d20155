// Package quiescetest is a coordinator in memory, in which application teams test their own shutdown and locking code.
//
// # Purpose
//
// [Start] gives a coordinator in milliseconds, with an address for package client. It is no imitation: the HTTP edge, the state machine and
// the log's format are those of the product; only Raft, the disk and the network between nodes are missing. So whatever a node would refuse,
// grant, queue or hand over, it does too, and it cannot drift.
//
// A test makes time pass ([Coordinator.Advance]), ends leases ([Coordinator.ExpireSession]), takes the leader away
// ([Coordinator.LoseLeader]), lets requests fail, vanish, hang or come late ([Coordinator.FailNext] and its neighbours), and reads back what
// was asked and what has become of it. It does what operators do: asks instances to stop and undoes it ([Coordinator.Drain],
// [Coordinator.Undo]), pauses them, makes a service read-only, runs plans, and anything else by [Coordinator.Call]. And it does what a
// platform does, without a signal to the process ([Signals]).
//
// A service is unknown until it is declared or an instance registers, and then lets one instance go at a time, 10 s after it became ready:
// declare it with a settle_ms of 0 ([Coordinator.PutService]) to drain instances that have just started.
//
// # Invariants
//
//	Q1  One call that changes something is one entry, encoded and decoded as in a log, and entries are applied one at a time.
//	Q2  A lease ends never before its TTL since its last keepalive. The first keepalive of a term is logged before it is acknowledged.
//	Q3  Faults stand in front of the edge: a request that a fault answers for has changed nothing, unless the fault says that it is served.
//	Q4  The API answers as a cluster does: one suite asks both the same and compares (cluster_test/conformance_test.go).
//
// # Ownership
//
// Who made the Coordinator closes it; Start does so in the test's cleanup. Between requests nothing runs: the next deadline is a timer. So a
// coordinator from [New] needs no Close, and fits into a testing/synctest bubble, where [Coordinator.HTTPClient] calls it without a socket.
//
// # Time
//
// Cluster time goes with the process's monotonic clock (the bubble's in a bubble), or with [ManualClock] by Advance alone. It stands still
// without a leader. What is due by time happens at its deadline, where a real node may be late: by up to a TTL for a lease, by a second for
// what nobody waits for.
//
// # Failure
//
// Nothing survives it, and no promise about crashes, partitions or disks is shown by it: tests of those run against real nodes.
//
// # Limits
//
// Those of the product. Remembered are the last 10,000 requests or 16 MiB of their bodies, and the last 100,000 events.
//
// # Not here
//
// MySQL and Redis: every JSON object is a mapping, every text or integer is a key, and accepted events stay pending
// until Deliver. Nobody relays outbox tables or looks at fences: nudges are counted, prepared events wait. More than one node.
package quiescetest
