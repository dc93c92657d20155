// Package outage measures what clients notice of a leader that goes: the longest time without an acknowledged write.
//
// # Purpose
//
// A client writes to one node on a schedule that does not wait for answers, so that a pause shows its full length: a client that sends
// only when it was answered would skip the very writes that a pause delays. A write that got no answer, or was not applied, is sent again
// under its key until it is acknowledged.
//
// # Invariants
//
//   - The schedule does not heed answers; only Lanes writes are on their way at a time, and what is due then is sent as soon as one is
//     through. A node that takes fewer writes than are due has late ones, which are counted. (Client)
//   - Silence before the first acknowledgement of a window and after the last one belongs to the gap. (Longest)
//   - A write that was refused ends the run: a gap is between writes that happened.
//
// # Ownership
//
// A Client owns its lanes, and Stop joins them. Each lane has a connection and an idempotency client of its own.
//
// # Time
//
// The local monotonic clock, at the moment an acknowledgement was read.
//
// # Not here
//
// What happens to the nodes meanwhile: the command.
package outage
