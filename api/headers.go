package api

// Request headers.
const (
	// HeaderIdempotencyKey makes a mutating call safe to send again: the same key answers the same result. Its form is client-id/seq,
	// with a decimal sequence number that the client counts up, or any other text.
	HeaderIdempotencyKey = "Idempotency-Key"
	// HeaderIdempotencyAcked goes with a client-id/seq key: the lowest sequence number whose answer the client has not seen. Results
	// below it are forgotten.
	HeaderIdempotencyAcked = "Idempotency-Acked"
	HeaderIfMatch          = "If-Match"
	// HeaderForwarded marks a request that one node handed to another, and names the first: it is not handed on again.
	HeaderForwarded = "Quiesce-Forwarded"
)

// Response headers.
const (
	HeaderIndex        = "Quiesce-Index"  // revision of the state that the answer shows, or that the command made
	HeaderLeader       = "Quiesce-Leader" // base URL of the leader, when one is known
	HeaderFeatureLevel = "Quiesce-Feature-Level"
	HeaderRetryAfter   = "Retry-After"
	HeaderETag         = "ETag" // version of a service or mapping, for If-Match
)

// FeatureLevel is what this version of the server can do, as a number.
const FeatureLevel = 1

// Media types.
const (
	ContentJSON    = "application/json"
	ContentProblem = "application/problem+json"
)

// Values of the consistency query parameter.
const (
	Linearizable = "linearizable"
	Stale        = "stale"
)
