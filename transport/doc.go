// Package transport carries bytes between nodes: raft's streams and small node-to-node calls, over one TCP port.
//
// # Purpose
//
// Each connection starts with a handshake that names the cluster, the sender with its incarnation, the intended
// receiver and what the connection is for. A raft stream is accepted only by the node it was meant for, in the same cluster, from a
// sender that Config.AcceptRaft agrees to. Raft itself checks none of that: it trusts whoever answers at an address.
//
// # Invariants
//
//   - A node whose VotesAllowed is false answers no RequestVote, RequestPreVote or TimeoutNow.
//   - No raft byte is read from, or written to, a connection whose handshake was not accepted.
//   - A call is written at most once. ErrNotSent means that no handler ran.
//   - Nothing is allocated on the word of a peer beyond handshakeBytesMax and CallBytesMax before the handshake ends.
//
// # Ownership
//
// Listen starts the accept loop, the vote filter and the janitor of idle connections; each connection has one goroutine.
// Close joins all of them. Raft's own transport runs inside and is ended by raft's Shutdown or by Close. Close raft first.
//
// # Time
//
// Wall-clock deadlines on I/O only: handshake 3 s, one raft exchange 3 s, a call 10 s unless its context says
// otherwise. No deadline here decides about state.
//
// # Failure
//
// A refused handshake is a *RefusedError with a Reason, logged on both sides. A port that is taken is an error of
// Listen. Errors of Accept are logged and retried.
//
// # Limits
//
// 256 incoming connections, 64 handshakes, 64 handlers, 256 own calls in flight, 4 idle connections per peer; call bodies 1 MiB.
// After its handshake a raft peer is trusted with the size of its messages.
//
// # Not here
//
// Who may join, what the call kinds mean, addresses of nodes (replica). TLS: Config.Dial and Config.Listener are
// where it goes.
package transport
