// Package mapping is the rule from one MySQL row to one Redis key, and nothing else.
//
// # Purpose
//
// A [Spec] is what an operator declares. [Compile] joins it with the columns that the server reported and gives a [Mapping], which
//   - canonicalises primary keys ([Mapping.PK]), so that one row has one identity in the replicated log,
//   - names the data key and its guard ([Mapping.Key], [Guard]),
//   - renders a row for Redis ([Mapping.Render]),
//   - judges what Redis holds against a row ([Mapping.Compare]) and digests both sides for chunk sums ([Digest], [Sum]).
//
// Delivery and reconciliation share this one renderer: a second one would drift, and the cache would flip between the two for ever.
//
// # Invariants
//
//   - Two primary keys never share a data key: all key columns are in the template, and the text between two of them starts with no digit.
//   - A data key holds no brace, so its guard "qg:{key}" hashes to the same Redis Cluster slot and is never a data key itself.
//   - Rendering is a function of (spec, row, token): a retry, another node or a later leader gives the same bytes and the same TTL.
//   - Numbers stay the text that the server printed. No value passes through a float64.
//   - Equal digests mean that Compare says equal, format_only or no_ttl, up to a 128-bit collision.
//
// # Ownership
//
// A Mapping is immutable after Compile and safe for concurrent use. The package starts no goroutine and keeps no state.
//
// # Time
//
// None. The only duration is the TTL, which is data.
//
// # Failure
//
// Every refusal is typed: [InvalidError] lists all faults of a spec at once, [PKError] names the part of the key, [ErrUnrenderable] and [ErrTooLarge] say that a row cannot
// become a value (its event is then dead: a retry would read the same row).
//
// # Limits
//
// See the constants of spec.go, template.go and render.go. Primary keys are integers, keys are made of the primary key only.
//
// # Not here
//
// SQL text (mysql), Redis commands (rediscache), the choice of what to compare when (reconcile).
package mapping
