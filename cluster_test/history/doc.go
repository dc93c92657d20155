// Package history keeps what clients asked of locks and were told, and decides whether one lock table could have said all of it.
//
// # Purpose
//
// A [Recorder] notes operations with the times of call and return. [Check] adds what happens without a call (expiries, timeouts, lapses),
// uses what was seen to settle what the callers did not learn, splits the history into parts that have nothing to do with each other, and
// has Porcupine look for one order of each part that the rules of docs/locks.md allow. The rules are written a second time here, as
// plainly as possible: one table for exclusive, shared and permit locks, several names at once, reentrant owners and the queue.
//
// # What a history must satisfy
//
//	V1  Compatible holders only, and one holder of an exclusive lock.
//	V2  The queue is first come, first served; nobody barges, and no ticket is lost.
//	V3  A new grant has a higher token than every earlier one, of any name; no token is given twice.
//	V4  A session ends by its client, or not before the last acknowledged keepalive was sent and its TTL passed since.
//	V5  A wait times out, and a grant lapses, not before its time.
//	V6  All names of an acquire or none; all grants of a release or none; a hand-off lets nobody in between.
//
// # Time
//
// Nanoseconds of one monotonic clock, that of the process that runs all clients. What nobody calls becomes an operation that begins when it
// may happen at the earliest and never returns. An operation whose caller learned nothing never returns either.
//
// # Pruning
//
// What is never learned multiplies the orders to try. The surviving log is read through the API: a token or a ticket that any later answer
// shows (a grant, a refusal that names the holder, a listing) proves that the acquire of its session was applied before that answer, and
// says with which result. An answer that nobody's acquire explains is a violation by itself.
//
// # Ownership
//
// A Recorder may be used by many goroutines. All else is plain values.
//
// # Limits
//
// Deciding is exponential in what overlaps, so a part should have some 100 operations at most; [Check] gives each part a bounded time, and an
// undecided part is no success. Lock-delays, revocations and forced releases are not in the rules.
//
// # Not here
//
// Clients and faults (package chaos).
package history
