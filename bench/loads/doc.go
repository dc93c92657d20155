// Package loads is what is measured: locks of three kinds behind one interface, and the loads on them.
//
// # Purpose
//
// Each kind of lock is used as its own documentation says: Quiesce through its client, etcd through concurrency.Mutex, Redis through
// SET NX PX and a script that deletes what is still one's own. Wire is Quiesce once more, without its client: one HTTP request for each
// operation, straight to the leader.
//
// # Invariants
//
//   - A lock that was not granted is an error, never a cycle.
//   - Two workers never hold one name at a time; the contended loads look.
//   - Every mutating request of Wire carries a counted idempotency key with the lowest number whose answer was not seen: the promise that
//     the client makes, and the cost of it at the server.
//
// # Ownership
//
// Locks own their connections and sessions; Close ends them.
//
// # Limits
//
// Sessions are opened and closed at most 32 at a time.
//
// # Not here
//
// How long and in which order: package load and the command.
package loads
