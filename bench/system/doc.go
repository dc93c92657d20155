// Package system starts what is compared: three nodes of Quiesce, three members of etcd, one Redis.
//
// # Invariants
//
//   - Every system makes a write durable before it answers: Quiesce and etcd by a sync on a majority, which is their default, Redis by
//     appendfsync always. Nothing else of their configuration is changed.
//   - Each member is a process of its own. etcd's is this program, executed again as "bench etcd-node".
//
// # Ownership
//
// A system owns its processes and ends them in Close. The caller owns the folder.
//
// # Failure
//
// A port that was free when it was chosen may be taken by the time a process wants it; starting fails then, with what the process said.
//
// # Not here
//
// Clients: package loads.
package system
