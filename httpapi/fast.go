package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

// The busiest requests are taken before the general way, which decodes a body into a tree, holds that to its schema and decodes it again
// into its type: reading a lock's two requests costs more there than applying them. What is plain and valid is answered here, with the
// same planning, the same fingerprints and the same outcomes; everything else goes on to the general way untouched.

// fast answers a request if it is one of those, and says whether it did.
func (s *Server) fast(c *gin.Context) {
	serve, busy := s.busy[c.FullPath()]
	if busy && c.Request.Method == http.MethodPost && c.Request.URL.RawQuery == "" && c.GetHeader(api.HeaderIfMatch) == "" && serve(c) {
		c.Abort()
		return
	}
	c.Next()
}

func (s *Server) busyPaths() map[string]func(*gin.Context) bool {
	return map[string]func(*gin.Context) bool{
		"/v1/locks/acquire": s.fastAcquire, "/v1/locks/release": s.fastRelease, "/v1/batch": s.fastBatch,
		"/v1/sessions/keepalive": s.fastKeepalive, "/v1/outbox/events": s.fastEnqueue,
	}
}

// fastKey reads the idempotency key of the headers; ok is false when the general way has to say what is wrong with it.
func fastKey(c *gin.Context) (key *fsm.Key, ok bool) {
	text := c.GetHeader(api.HeaderIdempotencyKey)
	k := Keyed{Key: text}
	if acked := c.GetHeader(api.HeaderIdempotencyAcked); acked != "" {
		n, err := strconv.ParseUint(acked, 10, 64)
		if err != nil || n > api.TokenMax {
			return nil, false
		}
		k.Acked = n
	}
	if text == "" && k.Acked == 0 {
		return nil, true
	}
	r := c.Request
	key, p := k.stateKey(fingerprint(rawBody(c), r.Method, r.URL.EscapedPath(), ""))
	return key, p == nil
}

func (s *Server) fastAcquire(c *gin.Context) bool {
	l := lean{b: rawBody(c)}
	b := l.acquire()
	key, ok := fastKey(c)
	if !l.end() || !ok {
		return false
	}
	var a *answer[api.Acquired]
	var err error
	if b.Ticket != 0 {
		a, err = s.reattach(c.Request.Context(), &b)
	} else {
		var command fsm.Command
		if command, err = planAcquire(&b); err != nil {
			return false
		}
		a, err = s.acquireBy(c.Request.Context(), &b, fsm.Op{Command: command, Key: key})
	}
	if err != nil {
		s.fastProblem(c, err)
		return true
	}
	body := make([]byte, 0, 256)
	writeFast(c, a.Status, a.Index, appendAcquired(body, a.Body))
	return true
}

func (s *Server) fastRelease(c *gin.Context) bool {
	l := lean{b: rawBody(c)}
	b := l.release()
	if !l.end() {
		return false
	}
	key, ok := fastKey(c)
	command, err := planRelease(&b)
	if err != nil || !ok {
		return false
	}
	r, err := s.propose(c.Request.Context(), fsm.Op{Command: command, Key: key})
	if err != nil {
		s.fastProblem(c, err)
		return true
	}
	writeFast(c, http.StatusNoContent, r.Index, nil)
	return true
}

func (s *Server) fastProblem(c *gin.Context, err error) {
	s.refusalOf(c.Request.Context(), err).write(c)
}

func writeFast(c *gin.Context, status int, index uint64, body []byte) {
	h := c.Writer.Header()
	h[api.HeaderIndex] = []string{strconv.FormatUint(index, 10)}
	if body == nil {
		c.Writer.WriteHeader(status)
		c.Writer.WriteHeaderNow()
		return
	}
	h["Content-Type"] = contentJSON
	c.Writer.WriteHeader(status)
	_, _ = c.Writer.Write(append(body, '\n')) // a client that is gone needs no answer
}

var contentJSON = []string{api.ContentJSON}

// fastBatch differs from batch in the reading and writing only. Operations that are not plain are planned the general way, one by one.
func (s *Server) fastBatch(c *gin.Context) bool {
	if c.GetHeader(api.HeaderIdempotencyKey) != "" || c.GetHeader(api.HeaderIdempotencyAcked) != "" {
		return false
	}
	l := lean{b: rawBody(c)}
	ops := l.batch()
	if !l.end() || len(ops) == 0 || len(ops) > api.BatchOpsMax {
		return false
	}
	ctx := c.Request.Context()
	results, err := s.applyBatch(ctx, ops, s.planFast)
	if err != nil {
		s.fastProblem(c, err)
		return true
	}
	var index uint64
	body := make([]byte, 0, 64+128*len(results))
	body = append(body, `{"results":[`...)
	for i, r := range results {
		if i > 0 {
			body = append(body, ',')
		}
		body = s.appendResult(body, ops[i].Op, r)
		index = max(index, r.index())
	}
	writeFast(c, http.StatusOK, index, append(body, `]}`...))
	return true
}

func (s *Server) planFast(ctx context.Context, o api.BatchOp) (fsm.Op, error) {
	l := lean{b: o.Body}
	var command fsm.Command
	var err error
	switch {
	case o.ID != "" || o.IfMatch != 0:
		return s.planBatchOp(ctx, o)
	case o.Op == api.OpAcquire:
		b := l.acquire()
		if !l.end() || b.Ticket != 0 {
			return s.planBatchOp(ctx, o)
		}
		command, err = planAcquire(&b)
	case o.Op == api.OpRelease:
		b := l.release()
		if !l.end() {
			return s.planBatchOp(ctx, o)
		}
		command, err = planRelease(&b)
	default:
		return s.planBatchOp(ctx, o)
	}
	if err != nil {
		return s.planBatchOp(ctx, o)
	}
	key, p := Keyed{Key: o.Key, Acked: o.Acked}.stateKey(batchFingerprint(o))
	if p != nil {
		return fsm.Op{}, p
	}
	return fsm.Op{Command: command, Key: key}, nil
}

// appendResult writes one result of a batch as encoding/json writes api.BatchResult.
func (s *Server) appendResult(b []byte, op string, r opResult) []byte {
	if r.refused == nil && !r.applied.Refused() && (op == api.OpAcquire || op == api.OpRelease) {
		if op == api.OpRelease {
			return append(appendField(appendField(append(b, '{'), `"status":`, http.StatusNoContent), `,"index":`, r.applied.Index), '}')
		}
		a, status := s.acquired(r.applied)
		b = appendField(appendField(append(b, '{'), `"status":`, uint64(status)), `,"index":`, r.applied.Index)
		return append(appendAcquired(append(b, `,"body":`...), a), '}')
	}
	return append(b, raw(s.batchResult(op, r))...)
}

func appendField(b []byte, name string, n uint64) []byte {
	return strconv.AppendUint(append(b, name...), n, 10)
}

// appendAcquired writes what encoding/json would write.
func appendAcquired(b []byte, a api.Acquired) []byte {
	if len(a.Deadlock) > 0 {
		return append(b, raw(a)...)
	}
	b = append(b, '{')
	comma := ""
	if len(a.Grants) > 0 {
		b = append(b, `"grants":[`...)
		for i, g := range a.Grants {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendField(appendText(append(b, `{"name":`...), g.Name), `,"token":`, g.Token)
			if g.Count > 0 {
				b = appendField(b, `,"count":`, g.Count)
			}
			b = append(b, '}')
		}
		b, comma = append(b, ']'), ","
	}
	for _, f := range [...]struct {
		name string
		n    uint64
	}{{`"lease_remaining_ms":`, a.LeaseRemainingMs}, {`"ticket":`, a.Ticket}, {`"position":`, uint64(a.Position)}} {
		if f.n > 0 {
			b, comma = appendField(append(b, comma...), f.name, f.n), ","
		}
	}
	return append(b, '}')
}

// appendText writes a string. What is not plain is left to encoding/json.
func appendText(b []byte, text string) []byte {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c >= 0x80 || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, err := json.Marshal(text)
			if err != nil {
				panic(err) // a string
			}
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), text...), '"')
}

// The bodies, field by field. Bounds are those of the schema; what passes them is not plain.

func (l *lean) acquire() (b api.AcquireLocks) {
	l.object(func(name []byte) int {
		switch string(name) {
		case "session":
			b.Session = l.text(api.IDBytesMax)
			return 0
		case "locks":
			l.array(func() { b.Locks = append(b.Locks, l.wanted()) })
			if len(b.Locks) > api.LocksMax {
				l.fail()
			}
			return 1
		case "wait_ms":
			b.WaitMs = l.number(api.WaitMaxMs)
			return 2
		case "claim_ms":
			b.ClaimMs = l.number(api.WaitMaxMs)
			return 3
		case "owner":
			b.Owner = l.text(api.NameBytesMax)
			return 4
		case "reentrant":
			b.Reentrant = l.bool()
			return 5
		case "lock_delay_ms":
			b.LockDelayMs = l.number(api.LockDelayMaxMs)
			return 6
		case "value":
			b.Value = l.text(api.ValueBytesMax)
			return 7
		case "ticket":
			b.Ticket = l.number(api.TokenMax)
			return 8
		}
		return -1
	})
	return b
}

func (l *lean) wanted() (w api.LockWanted) {
	l.object(func(name []byte) int {
		switch string(name) {
		case "name":
			w.Name = l.text(api.NameBytesMax)
			return 0
		case "mode":
			w.Mode = l.text(len(api.ModeExclusive))
			if _, known := lockModes[w.Mode]; !known || w.Mode == "" {
				l.fail()
			}
			return 1
		case "permits":
			w.Permits = l.number(api.PermitsMax)
			return 2
		case "limit":
			w.Limit = l.number(api.PermitsMax)
			return 3
		}
		return -1
	})
	return w
}

func (l *lean) release() (b api.ReleaseLocks) {
	l.object(func(name []byte) int {
		switch string(name) {
		case "session":
			b.Session = l.text(api.IDBytesMax)
			return 0
		case "locks":
			l.array(func() { b.Locks = append(b.Locks, l.grant()) })
			return 1
		}
		return -1
	})
	if b.Session == "" || len(b.Locks) == 0 || len(b.Locks) > api.LocksMax {
		l.fail()
	}
	return b
}

func (l *lean) grant() (g api.Grant) {
	l.object(func(name []byte) int {
		switch string(name) {
		case "name":
			g.Name = l.text(api.NameBytesMax)
			return 0
		case "token":
			g.Token = l.number(api.TokenMax)
			return 1
		}
		return -1
	})
	if g.Name == "" || g.Token == 0 {
		l.fail()
	}
	return g
}

func (l *lean) batch() (ops []api.BatchOp) {
	l.object(func(name []byte) int {
		if string(name) != "ops" {
			return -1
		}
		l.array(func() { ops = append(ops, l.batchOp()) })
		return 0
	})
	return ops
}

func (l *lean) batchOp() (o api.BatchOp) {
	l.object(func(name []byte) int {
		switch string(name) {
		case "op":
			o.Op = l.opName()
			return 0
		case "id":
			o.ID = l.text(api.NameBytesMax)
			return 1
		case "key":
			o.Key = l.text(api.IdempotencyKeyMax)
			return 2
		case "acked":
			o.Acked = l.number(api.TokenMax)
			return 3
		case "if_match":
			o.IfMatch = l.number(api.TokenMax)
			return 4
		case "body":
			o.Body = l.skip()
			return 5
		}
		return -1
	})
	return o
}

// opName saves the copy of the two names that nearly all operations have.
func (l *lean) opName() string {
	switch name := l.bytes(); string(name) {
	case api.OpAcquire:
		return api.OpAcquire
	case api.OpRelease:
		return api.OpRelease
	default:
		return string(name)
	}
}
