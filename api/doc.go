// Package api is what travels over HTTP between Quiesce and its clients: JSON shapes, limits, header names and error codes.
//
// # Purpose
//
// Server and client share these types, so that neither can drift from the other; the served OpenAPI document is generated from them.
// The struct tags beside `json` (doc, minLength, maximum, ...) are read by that generator and enforced by the server.
//
// # Invariants
//
//   - One table (errors.go) says which status an error code has. The server writes by it, the client reads by it.
//   - Durations end in _ms, tokens and indexes are integers below 2^53, a field that is absent from a request is its zero value.
//   - Names only ever get added.
//
// # Ownership
//
// Values only: nothing here is shared, started or closed.
//
// # Time
//
// Points in time are told as ages and remainders in milliseconds of cluster time, as of the answer. The cluster's clock is not a wall clock.
//
// # Failure
//
// Every error answer is a Problem (RFC 9457) with a Code.
//
// # Limits
//
// limits.go. The tags repeat the numbers; a test of httpapi holds both together.
//
// # Not here
//
// Validation, encoding, transport: httpapi and client.
package api
