package wire

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"
)

const (
	exchangeMax    = 20 * time.Second
	bufferBytes    = 8 << 10
	answerBytesMax = 8 << 20
)

// ErrMalformed is an answer that is not the HTTP that this client knows.
var ErrMalformed = errors.New("wire: malformed answer")

// Conn is a connection that is kept open.
type Conn struct {
	Limit time.Duration // of one exchange; 20 s when 0

	conn net.Conn
	head []byte // of every request
	out  []byte
	in   []byte // of it, read is filled
	read int
	last []byte // head of the last answer
	body []byte // of a chunked answer
}

// Dial connects to a server.
func Dial(ctx context.Context, addr string) (*Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return Over(conn, addr), nil
}

// Over uses a connection that is there already.
func Over(conn net.Conn, host string) *Conn {
	return &Conn{conn: conn, head: []byte(" HTTP/1.1\r\nHost: " + host + "\r\nContent-Type: application/json\r\n"), in: make([]byte, bufferBytes)}
}

// Close closes the connection.
func (c *Conn) Close() error { return c.conn.Close() }

// Request is one request. Key and Acked go together; there are no such headers without a key.
type Request struct {
	Method string
	Path   string
	Key    string // client/seq
	Acked  uint64
	Body   []byte
}

// Do exchanges a request for an answer. The body is valid until the next call.
func (c *Conn) Do(r Request) (status int, body []byte, err error) {
	if err := c.conn.SetDeadline(time.Now().Add(cmp.Or(c.Limit, exchangeMax))); err != nil {
		return 0, nil, err
	}
	c.encode(r)
	if _, err := c.conn.Write(c.out); err != nil {
		return 0, nil, err
	}
	return c.answer()
}

func (c *Conn) encode(r Request) {
	out := append(c.out[:0], r.Method...)
	out = append(append(append(out, ' '), r.Path...), c.head...)
	if r.Key != "" {
		out = append(append(append(out, "Idempotency-Key: "...), r.Key...), "\r\nIdempotency-Acked: "...)
		out = append(strconv.AppendUint(out, r.Acked, 10), "\r\n"...)
	}
	out = strconv.AppendInt(append(out, "Content-Length: "...), int64(len(r.Body)), 10)
	c.out = append(append(out, "\r\n\r\n"...), r.Body...)
}

// answer reads one answer and nothing behind it: a server sends no more than it was asked for.
func (c *Conn) answer() (status int, body []byte, err error) {
	c.read = 0
	end := -1
	for end < 0 {
		if err := c.more(); err != nil {
			return 0, nil, err
		}
		end = bytes.Index(c.in[:c.read], []byte("\r\n\r\n"))
	}
	head, rest := c.in[:end+2], end+4
	if len(head) < len("HTTP/1.1 200") {
		return 0, nil, fmt.Errorf("%w: %q", ErrMalformed, head)
	}
	if status, err = strconv.Atoi(string(head[9:12])); err != nil {
		return 0, nil, fmt.Errorf("%w: %q", ErrMalformed, head)
	}
	c.last = append(c.last[:0], head...) // what follows may move it
	if length, ok := field(head, "content-length"); ok {
		body, err = c.counted(rest, length)
	} else if coding, ok := field(head, "transfer-encoding"); ok && string(coding) == "chunked" {
		body, err = c.chunked(rest)
	}
	return status, body, err
}

// Field is a header of the last answer, by its name in lower case.
func (c *Conn) Field(name string) (string, bool) {
	value, ok := field(c.last, name)
	return string(value), ok
}

// more reads once, into a larger buffer if need be.
func (c *Conn) more() error {
	if c.read == len(c.in) {
		if len(c.in) >= answerBytesMax {
			return fmt.Errorf("%w: more than %d bytes", ErrMalformed, answerBytesMax)
		}
		c.in = append(c.in, make([]byte, len(c.in))...)
	}
	n, err := c.conn.Read(c.in[c.read:])
	c.read += n
	return err
}

// field finds a header line by its name in lower case.
func field(head []byte, name string) ([]byte, bool) {
	for line := range bytes.SplitSeq(head, []byte("\r\n")) {
		if len(line) > len(name) && line[len(name)] == ':' && bytes.EqualFold(line[:len(name)], []byte(name)) {
			return bytes.TrimSpace(line[len(name)+1:]), true
		}
	}
	return nil, false
}

func (c *Conn) counted(from int, length []byte) ([]byte, error) {
	n, err := strconv.Atoi(string(length))
	if err != nil || n < 0 || n > answerBytesMax {
		return nil, fmt.Errorf("%w: length %q", ErrMalformed, length)
	}
	for c.read < from+n {
		if err := c.more(); err != nil {
			return nil, err
		}
	}
	return c.in[from : from+n], nil
}

func (c *Conn) chunked(from int) ([]byte, error) {
	c.body = c.body[:0]
	for {
		at := -1
		for {
			if at = bytes.Index(c.in[from:c.read], []byte("\r\n")); at >= 0 {
				break
			}
			if err := c.more(); err != nil {
				return nil, err
			}
		}
		n, err := strconv.ParseUint(string(c.in[from:from+at]), 16, 31)
		if err != nil {
			return nil, fmt.Errorf("%w: chunk %q", ErrMalformed, c.in[from:from+at])
		}
		from += at + 2
		for c.read < from+int(n)+2 {
			if err := c.more(); err != nil {
				return nil, err
			}
		}
		if n == 0 {
			return c.body, nil
		}
		c.body = append(c.body, c.in[from:from+int(n)]...)
		from += int(n) + 2
	}
}
