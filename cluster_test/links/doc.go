// Package links is the network between the nodes of a test, of which every direction can be stalled by itself.
//
// # Purpose
//
// Each node is told to the others by an address of this package, which hands what arrives there to where the node listens. Who has dialed is
// learned from the first bytes: a connection between nodes opens with a handshake that names its sender, and a forwarded HTTP request names
// the node that forwards it. So a directed link, from one node to another, is all that flows that way on any connection between the two:
// the requests of the one and the answers that it gives to the other. Stalling one link is a one-way partition, both a two-way one.
//
// # Invariants
//
//	K1  While a link is stalled nothing that its sender wrote afterwards arrives: no byte, no end, no reset of a connection.
//	K2  What was held arrives after healing, in order, or the connection has ended.
//	K3  Other links do not notice.
//
// # Ownership
//
// Links owns its listeners, connections and their goroutines; Close ends and joins them.
//
// # Failure
//
// A connection whose first bytes name nobody flows unhindered: it is none between nodes. One that breaks is ended at the other side too, as
// the system of a dead node would do.
//
// # Limits
//
// One chunk of 32 KiB is held for each direction of a connection; the rest stays where it is, and in the buffers of the system. 1,024
// connections. A byte that was on its way when the stall began may still arrive, as in any network. A connection can still be opened over
// a stalled link: it is the handshake on it that gets no answer.
//
// # Not here
//
// Delays, reordering and corruption: TCP hides them, and a checksum each guards the stores and the entries.
package links
