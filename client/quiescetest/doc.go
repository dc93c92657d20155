// Package quiescetest is a coordinator in memory for the tests of applications that use package client.
//
// # Purpose
//
// It keeps the HTTP contract for what the SDK uses: sessions, exclusive locks with a queue, instances with a drain budget of one,
// mappings, enqueued events, idempotency keys. A test can make it hang, refuse or fail, and read back what it was told.
//
// # Invariants
//
// The same idempotency key gets the same answer. A lock has one holder, tokens rise. A session expires a TTL after its last keepalive.
//
// # Ownership
//
// The test owns the Coordinator; Start closes it in the test's cleanup. Without a server, it is an http.Handler and starts no goroutine.
//
// # Time
//
// It reads the wall clock when a request comes, and expires what is due then; in a testing/synctest bubble that is the bubble's clock.
//
// # Failure
//
// One node in memory: nothing survives it, and no promise of the product is proved by it. Tests of those run against real nodes.
//
// # Limits
//
// None enforced but the batch of one acquire; it is for tests.
//
// # Not here
//
// Delivery of events to a cache, reconciliation, reads of collections.
package quiescetest
