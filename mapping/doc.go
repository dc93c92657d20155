// Package mapping is the rule from one MySQL row to its Redis keys, and nothing else.
//
// # Purpose
//
// A [Spec] is what an operator declares. [Compile] joins it with the columns that the server reported and gives a [Mapping], which
//   - canonicalises keys ([Mapping.Tuple]): the tuple of the key columns is the identity of an event in the replicated log,
//   - names the data keys and their guards ([Mapping.Keys], [Mapping.Guard]), and takes a key apart again ([Mapping.Parse]),
//   - renders a row for Redis ([Mapping.AppendWrites]),
//   - judges what Redis holds against a row ([Mapping.Compare]) and digests both sides for chunk sums ([Digest], [Sum]).
//
// [Overlap] tells whether two mappings of a target could touch the same key.
//
// Delivery and reconciliation share this one renderer: a second one would drift, and the cache would flip between the two for ever.
//
// # Invariants
//
//   - A value of a key column has one canonical text, and two texts are never of one row. What the server would bend ('12abc', a date that does not exist, a letter whose lower case
//     depends on the collation) is refused with the reason. (FuzzTuple, TestTuple_EachClassHasOneSpellingOfAValue)
//   - Two tuples never share a data key: each part's end shows, or the tuple is refused, and Parse undoes rendering. (FuzzTemplate, FuzzParse)
//   - A guard is in the Redis Cluster slot of its key, no two keys share one, and none is a data key. (FuzzGuardKey, TestGuard_SharesTheSlotOfItsDataKey)
//   - Rendering is a function of (spec, row, token): a retry, another node or a later leader gives the same bytes and the same TTL. Records of the first version render as they
//     did, but that of a hash whose row is gone only the managed fields are removed. (TestCompile_RecordsOfTheFirstVersionRenderAsTheyDid)
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
// Every refusal is typed: [InvalidError] lists all faults of a spec at once, [KeyError] names the part of the key, [ErrUnrenderable] and [ErrTooLarge] say that a row cannot
// become a value (its event is then dead: a retry would read the same row).
//
// # Limits
//
// See the constants of spec.go, where.go, keytype.go, template.go and render.go. Key columns are integers, DECIMAL, CHAR, VARCHAR, BINARY, VARBINARY, DATE, DATETIME, UUID and INET.
//
// # Not here
//
// SQL text (mysql), Redis commands (rediscache), the choice of what to compare when (reconcile).
package mapping
