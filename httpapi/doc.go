// Package httpapi is the HTTP edge: it decodes a request, checks it, makes one call on the replicated state and encodes the answer.
//
// # Purpose
//
// routes.go shows the whole API on one screen. Everything around a route is done once for all of them: limits, problems, idempotency keys,
// forwarding to the leader, long polls, pages, metrics and the OpenAPI document, which is generated from the types that decode.
//
// # Invariants
//
//   - Every error answer is application/problem+json with a code of api.Meanings, also those of the router and of panics.
//   - A mutating request answers applied, refused, surely not applied (503) or unknown (504), and never guesses.
//   - A request travels one hop at most.
//   - A dropped connection changes nothing in the log: a wait goes on until its own end.
//
// # Ownership
//
// Serve owns the listener and every connection; it returns after they are closed. Handlers start no goroutines.
//
// # Time
//
// A request parks for api.ParkMaxMs at most, by this node's clock. Everything that is decided by time is decided in cluster time by fsm.
//
// # Failure
//
// A panic answers 500 with an id that stands in the log. A leader that cannot be dialled is 503, one that fell silent after bytes were
// written is 504.
//
// # Limits
//
// api/limits.go and the constants of server.go and forward.go.
//
// # Not here
//
// Rendering and checking of mappings, MySQL, Redis, Raft: interfaces of ports.go, wired by cmd/node. Authentication.
package httpapi
