// Package store holds everything durable of one node under one data folder.
//
// # Purpose
//
// The log, the stable values (term and vote) and the snapshots that hashicorp/raft asks for, wrapped so that a crash at any point, a
// full disk, a hung disk and a second process on the same folder each have one known outcome.
//
//	DIR/lock              flock, with the holder's pid
//	DIR/node.json         node id, incarnation, cluster id, log store; written last when a folder is made
//	DIR/rejoin            marker: drop the log at the next start
//	DIR/raft/stable.db    bbolt: term, vote
//	DIR/raft/wal/         raft-wal, or DIR/raft/log.db: bbolt
//	DIR/raft/snapshots/   the newest two
//
// # Invariants
//
//   - One process at a time uses a folder, and one node id and one log store ever.
//   - A vote's term and candidate are one record: never the one without the other.
//   - After the first failed or hung operation nothing more is written.
//   - IsMonotonic passes through every wrapper.
//   - Nothing that may have been acknowledged is ever dropped: see rejoinIfMarked.
//
// # Ownership
//
// No goroutine of its own; raft-wal has one, which its Close ends. A call under the guard costs a timer, stopped at its return. Close raft before the stores.
//
// # Time
//
// SyncTimeout (5 s) tells a hung disk from a slow one, and from a process that was stopped and resumed. Wall clock appears in snapshot names only, by which nothing is decided between snapshots of different term or index.
//
// # Failure
//
// Any error of the log or stable store, and any call longer than SyncTimeout, is one call of Config.OnFatal; the caller of the write has an unknown outcome. A
// damaged folder or snapshot is a typed error before raft starts. A failed snapshot is raft's to retry.
//
// # Limits
//
// Log cache 64 MiB. raft-wal preallocates 64 MiB segments and calls itself experimental: walMeta and walLogs hold
// what its release v0.4.0 gets wrong about deletions and rotations, and TestLogs_AgreeWithTheirObviousTwin looks for more.
//
// # Not here
//
// What entries mean and their checksums (fsm, replica). When to take snapshots (raft). Exit codes (cmd/node).
package store
