package links

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"time"
)

// The first bytes of a connection between nodes, as package transport documents them: magic (4), version (1), purpose (1), length of the
// body (2), and in the body strings that are preceded by one length byte each, of which the second is the sender's id.
const (
	magic         = "QSCE"
	headBytes     = 8
	bodyBytesMax  = 4 * (1 + 255)
	httpHeadMax   = 64 << 10
	firstWithin   = 10 * time.Second
	forwardedName = "quiesce-forwarded:" // the HTTP header by which a node that forwards a request names itself
)

var errNoHandshake = errors.New("the handshake cannot be read")

// readSender reads as much of a connection as tells who opened it, "" for no node, and returns what it has read.
func readSender(conn net.Conn) (sender string, first []byte, err error) {
	_ = conn.SetReadDeadline(time.Now().Add(firstWithin))
	first = make([]byte, len(magic))
	if _, err = io.ReadFull(conn, first); err != nil {
		return "", nil, err
	}
	if string(first) == magic {
		sender, first, err = readHandshake(conn, first)
	} else {
		sender, first, err = readHTTP(conn, first)
	}
	if err == nil {
		err = conn.SetReadDeadline(time.Time{})
	}
	return sender, first, err
}

func readHandshake(r io.Reader, first []byte) (string, []byte, error) {
	frame := append(first, make([]byte, headBytes-len(first))...)
	if _, err := io.ReadFull(r, frame[len(first):]); err != nil {
		return "", nil, err
	}
	length := int(binary.BigEndian.Uint16(frame[6:headBytes]))
	if length > bodyBytesMax {
		return "", nil, errNoHandshake
	}
	frame = append(frame, make([]byte, length)...)
	if _, err := io.ReadFull(r, frame[headBytes:]); err != nil {
		return "", nil, err
	}
	_, rest, ok := cutString(frame[headBytes:])
	sender, _, ok2 := cutString(rest)
	if !ok || !ok2 {
		return "", nil, errNoHandshake
	}
	return sender, frame, nil
}

func cutString(body []byte) (text string, rest []byte, ok bool) {
	if len(body) == 0 || len(body) < 1+int(body[0]) {
		return "", nil, false
	}
	end := 1 + int(body[0])
	return string(body[1:end]), body[end:], true
}

// readHTTP reads to the end of the first request's headers. The connections of a node to another's API are its own, so the first request
// tells for all.
func readHTTP(r io.Reader, first []byte) (string, []byte, error) {
	chunk := make([]byte, 4<<10)
	for !bytes.Contains(first, []byte("\r\n\r\n")) {
		n, err := r.Read(chunk)
		first = append(first, chunk[:n]...)
		if err != nil {
			return "", nil, err
		}
		if len(first) > httpHeadMax {
			return "", first, nil
		}
	}
	head, _, _ := strings.Cut(string(first), "\r\n\r\n")
	for line := range strings.SplitSeq(head, "\r\n") {
		if len(line) > len(forwardedName) && strings.EqualFold(line[:len(forwardedName)], forwardedName) {
			return strings.TrimSpace(line[len(forwardedName):]), first, nil
		}
	}
	return "", first, nil
}
