package httpapi

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/quiescehq/quiesce/api"
)

// What every request goes through, in this order: count, recover, headers, limits, body; then, for the API proper, forward.

func randomID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// count adds before anything looks at the draining flag: the other order would let Drain see no request while one is about to begin.
func (s *Server) count(c *gin.Context) {
	s.inFlight.Add(1)
	defer s.inFlight.Add(-1)
	begun := time.Now()
	defer func() {
		took := time.Since(begun)
		s.metrics.observe(c.Request.Method, c.FullPath(), c.Writer.Status(), took)
		if ctx := c.Request.Context(); s.log.Enabled(ctx, slog.LevelDebug) {
			s.log.DebugContext(ctx, "request", "method", c.Request.Method, "route", c.FullPath(), "status", c.Writer.Status(), "took", took)
		}
	}()
	c.Next()
}

// recover answers panics. A panic after the first byte of the answer cuts the connection: the client must not take half an answer for one.
func (s *Server) recover(c *gin.Context) {
	defer func() {
		cause := recover()
		if cause == nil {
			return
		}
		if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(http.ErrAbortHandler)
		}
		if c.Writer.Written() {
			s.log.ErrorContext(c.Request.Context(), "panic after the answer began", "panic", fmt.Sprint(cause), "stack", string(debug.Stack()))
			panic(http.ErrAbortHandler)
		}
		s.bug(c.Request.Context(), fmt.Errorf("panic: %v\n%s", cause, debug.Stack())).write(c)
	}()
	c.Next()
}

// Values of headers that never change. Names are in their canonical form: Set would look for it at each request.
var (
	headerFeatureLevel = []string{strconv.Itoa(api.FeatureLevel)}
	headerNoSniff      = []string{"nosniff"}
	headerNoStore      = []string{"no-store"}
)

func (s *Server) headers(c *gin.Context) {
	h := c.Writer.Header()
	h[api.HeaderFeatureLevel] = headerFeatureLevel
	h["X-Content-Type-Options"] = headerNoSniff
	h["Cache-Control"] = headerNoStore
	if l := s.rep.Leader(); l.HTTPAddr != "" {
		h[api.HeaderLeader] = s.leaderURL.of(l)
	}
	if s.isDraining() {
		h.Set("Connection", "close")
	}
	c.Next()
}

func baseURL(l Leader) string { return "http://" + l.HTTPAddr }

// leaderURL is the header's value for the leader that was seen last.
type leaderURL struct{ last atomic.Pointer[leaderAt] }

type leaderAt struct {
	addr  string
	value []string
}

func (u *leaderURL) of(l Leader) []string {
	at := u.last.Load()
	if at == nil || at.addr != l.HTTPAddr {
		at = &leaderAt{l.HTTPAddr, []string{baseURL(l)}}
		u.last.Store(at)
	}
	return at.value
}

func (s *Server) limits(c *gin.Context) {
	if c.Request.ContentLength != 0 {
		// It stays until the body was read to its end, since net/http reads on after a refusal, to keep the connection. Recorders of tests
		// have no deadline to set.
		_ = http.NewResponseController(c.Writer).SetReadDeadline(time.Now().Add(s.bodyMax))
	}
	if n := len(c.Request.RequestURI); n > api.URIBytesMax {
		overLimit(api.CodeURITooLong, fmt.Sprintf("the URI has %d bytes", n), api.URIBytesMax).write(c)
		return
	}
	n := 0
	for name, values := range c.Request.Header {
		for _, v := range values {
			n += len(name) + len(v)
		}
	}
	if n > api.HeaderBytesMax {
		overLimit(api.CodeHeadersTooLarge, fmt.Sprintf("the headers have %d bytes", n), api.HeaderBytesMax).write(c)
		return
	}
	c.Next()
}

// heldBody is a body that was read whole; who reads it again begins at its start.
type heldBody struct {
	bytes.Reader
	raw []byte
}

func (*heldBody) Close() error { return nil }

// rawBody is what body read; nil if there was nothing.
func rawBody(c *gin.Context) []byte {
	if held, ok := c.Request.Body.(*heldBody); ok {
		return held.raw
	}
	return nil
}

// body reads the whole body: the fingerprint of an idempotency key covers it, and forwarding may have to send it. But for uploads, which
// are too large for that and have no keys.
func (s *Server) body(c *gin.Context) {
	if uploading(c) {
		if p := s.takeUpload(c); p != nil {
			p.write(c)
			return
		}
		c.Next()
		return
	}
	raw, p := readBody(c)
	if p != nil {
		p.write(c)
		return
	}
	if len(raw) > 0 && !isJSON(c.GetHeader("Content-Type")) {
		problem(api.CodeMediaType, "send the body as application/json").write(c)
		return
	}
	held := &heldBody{raw: raw}
	held.Reset(raw)
	c.Request.Body = held
	c.Request.ContentLength = int64(len(raw))
	c.Next()
}

func readBody(c *gin.Context) ([]byte, *refusal) {
	r := c.Request
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return nil, nil
	}
	if r.ContentLength > api.BodyBytesMax {
		return nil, overLimit(api.CodeBodyTooLarge, fmt.Sprintf("the body has %d bytes", r.ContentLength), api.BodyBytesMax)
	}
	raw, err := readAll(r)
	switch {
	case err != nil:
		return nil, problem(api.CodeMalformed, "the body could not be read to its end")
	case len(raw) > api.BodyBytesMax:
		return nil, overLimit(api.CodeBodyTooLarge, "the body is too large", api.BodyBytesMax)
	}
	// A deadline that stayed on the connection would end a parked request: net/http reads on in the background to notice a client that
	// goes away.
	_ = http.NewResponseController(c.Writer).SetReadDeadline(time.Time{})
	return raw, nil
}

// bodyTrusted is how much room a body gets for its word alone; larger ones get theirs as they come.
const bodyTrusted = 16 << 10

func readAll(r *http.Request) ([]byte, error) {
	if r.ContentLength <= 0 || r.ContentLength > bodyTrusted {
		return io.ReadAll(io.LimitReader(r.Body, api.BodyBytesMax+1))
	}
	raw := make([]byte, r.ContentLength)
	_, err := io.ReadFull(r.Body, raw)
	return raw, err
}

func isJSON(contentType string) bool {
	if contentType == api.ContentJSON {
		return true
	}
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && media == api.ContentJSON
}
