// Orders is a small service with Gin, MySQL and Redis that stops safely: the application of Quiesce's demo and tests.
//
// # Purpose
//
// POST /orders creates an order, PUT /orders/:id changes one under a lock of its own, GET /orders/:id reads the cache and then the table.
// The table is the truth. The service never writes a value to the cache: after each commit it tells the coordinator which row changed, and
// that brings the cache up to date.
//
// # Invariants
//
//   - A request id is committed once, whatever is sent again: it is the primary key of the ledger, written in the order's transaction.
//   - An update with an older lock's token changes nothing: the fence_token column only rises.
//   - After each commit its key leaves the cache, in such a way that no delivery that read before brings it back. An event that was not accepted is kept and sent
//     again until it is, or until the process reports it as left over (client.Sync).
//
// # Ownership
//
// The instance owns the pools: its drain ends what is open in them and closes them. It owns the Sync too, which is flushed by the drain. main owns the goroutine that
// declares the mapping, which ends after client.App.Run has returned.
//
// # Time
//
// Requests are bounded by their class (readWithin, requestTimeout), the wait for a lock by lockWait. What follows a commit does not end with the request.
//
// # Failure
//
// Without the coordinator orders are created and read, and cache keys removed; updates answer 503, for they need the lock. Without Redis
// orders are read from the table. A process that is killed between commit and event leaves a stale key for reconciliation to find. Events that come before the coordinator
// has ever heard of the mapping are refused: their keys are misses until the next change.
//
// # Limits
//
// waitingMax commits may be without their event; beyond that writes are refused with 503.
//
// # Not here
//
// Authentication, and anything else that an order needs but the demonstration does not.
package main
