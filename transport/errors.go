package transport

import (
	"errors"
	"fmt"
)

// Errors of this package. They are wrapped with the address and the cause.
var (
	// ErrNotSent: the request surely did not reach a handler; it may be sent again.
	ErrNotSent = errors.New("call not sent")
	// ErrNoAnswer: the request may or may not have been handled.
	ErrNoAnswer = errors.New("call sent, outcome unknown")
	// ErrClosed: this transport has been closed.
	ErrClosed = errors.New("transport closed")
	// ErrFrame: the bytes are not a frame of this protocol.
	ErrFrame = errors.New("not a frame of the node protocol")
	// ErrTooLarge: a body above CallBytesMax.
	ErrTooLarge = errors.New("call body too large")
	// ErrVotesRefused answers RequestVote, RequestPreVote and TimeoutNow on a node that holds no configuration.
	ErrVotesRefused = errors.New("node holds no configuration: it takes no part in elections")
)

// Reason says why a peer refused a connection.
type Reason uint8

// The values travel on the wire: append only.
const (
	ReasonNone      Reason = iota
	ReasonVersion          // another protocol version
	ReasonPurpose          // neither raft nor call
	ReasonNotFormed        // the receiver has not been formed into or joined to a cluster
	ReasonCluster          // another cluster id
	ReasonReceiver         // the connection was meant for another node
	ReasonSender           // the receiver's AcceptRaft refused this sender
	ReasonBusy             // too many connections
	ReasonStopped          // the receiver's raft has been shut down
)

var reasonText = map[Reason]string{
	ReasonNone: "accepted", ReasonVersion: "protocol version differs", ReasonPurpose: "unknown purpose",
	ReasonNotFormed: "receiver belongs to no cluster", ReasonCluster: "cluster id differs",
	ReasonReceiver: "meant for another node", ReasonSender: "sender refused", ReasonBusy: "too many connections",
	ReasonStopped: "receiver is stopping",
}

func (r Reason) String() string {
	if text, ok := reasonText[r]; ok {
		return text
	}
	return fmt.Sprintf("reason %d", uint8(r))
}

// RefusedError is the peer's typed refusal of a handshake.
type RefusedError struct {
	Reason Reason
	Detail string // the peer's sentence, may be empty
	By     Peer   // who refused, as it names itself; empty when it was too busy to look
}

func (e *RefusedError) Error() string {
	text := fmt.Sprintf("refused by node %q: %s", e.By.NodeID, e.Reason)
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	return text
}

// RemoteError is an error that the remote handler returned, or (wrapped in ErrNotSent) a refusal before it ran.
type RemoteError struct {
	Code    string // stable, for machines; at most 255 bytes
	Message string // for people
}

func (e *RemoteError) Error() string { return e.Code + ": " + e.Message }

// Codes that the transport itself answers with. Handlers choose their own.
const (
	CodeInternal    = "internal"     // the handler returned an error that is no *RemoteError
	CodeBusy        = "busy"         // no handler slot became free in time
	CodeUnknownKind = "unknown_kind" // no handler for this kind
	CodeCluster     = "cluster"      // this kind needs equal, non-empty cluster ids
	CodeTooLarge    = "too_large"    // the handler's answer is above CallBytesMax
)
