package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/quiescehq/quiesce/api"
)

// roundsMax bounds how often an operation whose outcome stayed unknown is sent again for the sake of what it may have taken: for some two
// minutes, longer than most sessions live without a keepalive.
const roundsMax = 8

// bodyBytes has room for most bodies.
const bodyBytes = 160

// op is one mutating operation on its way to the cluster, as part of a batch. Its caller waits for it, or has turned away and left the
// rest to after.
type op struct {
	name   string      // api.Op…
	id     string      // what the operation's endpoint has in its path
	body   []byte      // encoded; nil: none
	sticky bool        // goes out even if its caller turns away before
	keep   bool        // goes on under its key when the outcome stays unknown, for it may hold something that nobody would give back
	tidy   func(o *op) // called once with the outcome, when the operation is over; may be nil. It must not wait

	seq      uint64 // of its key, drawn for the first sending
	rounds   int    // how often the outcome stayed unknown
	done     chan struct{}
	sent     time.Time       // of the first attempt: leases count from here
	answer   json.RawMessage // of the endpoint
	err      error
	taken    bool // by the sender; this and the next two are guarded by batches.mu
	finished bool
	orphan   bool // nobody waits for it
}

func newOp(name string, body any) (o *op, err error) {
	o = &op{name: name, done: make(chan struct{})}
	switch body := body.(type) {
	case *api.AcquireLocks:
		o.body = appendAcquire(make([]byte, 0, bodyBytes), body)
	case *api.ReleaseLocks:
		o.body = appendRelease(make([]byte, 0, bodyBytes), body)
	default:
		o.body, err = encodeBody(body)
	}
	return o, err
}

// again is the operation once more, under the same key, with nobody who waits for it.
func (o *op) again() *op {
	return &op{name: o.name, id: o.id, body: o.body, keep: o.keep, tidy: o.tidy, seq: o.seq, rounds: o.rounds + 1, sent: o.sent,
		done: make(chan struct{}), orphan: true}
}

// inDoubt tells whether the operation may have been applied without an answer: now, or in an earlier round.
func (o *op) inDoubt() bool {
	return errors.Is(o.err, ErrOutcomeUnknown) || o.rounds > 0 && errors.Is(o.err, ErrUnavailable)
}

// result reads the answer of an operation that was applied.
func (o *op) result(into any) error {
	if o.err != nil {
		return o.err
	}
	if err := json.Unmarshal(o.answer, into); err != nil {
		return fmt.Errorf("client: read the answer to %s: %w", o.name, err)
	}
	return nil
}

func (o *op) take(r api.BatchResult) {
	if r.Problem == nil {
		o.answer = r.Body
		return
	}
	refused := errorOf(r.Problem, nil)
	o.err = refused
	if failed := answerFailure(refused); failed != nil {
		o.err = giveUp(o.name, 1, failed.unknown, refused, nil)
	}
}

// opBytes is what an operation needs around its body in a batch: names, key and punctuation.
const opBytes = 256

func (o *op) size() int { return opBytes + len(o.body) }

// append adds the operation to the JSON of a batch. By hand, for all but the body is plain ASCII, and the body is encoded already by the
// caller: encoding it again would cost as much as everything else that a batch needs here.
func (o *op) append(to []byte, client string, acked uint64) []byte {
	to = append(append(append(to, `{"op":"`...), o.name...), '"')
	if o.id != "" {
		to = strconv.AppendQuote(append(to, `,"id":`...), o.id)
	}
	to = append(append(append(to, `,"key":"`...), client...), '/')
	to = append(strconv.AppendUint(to, o.seq, 10), '"')
	if acked != 0 {
		to = strconv.AppendUint(append(to, `,"acked":`...), acked, 10)
	}
	if o.body != nil {
		to = append(append(to, `,"body":`...), o.body...)
	}
	return append(to, '}')
}
