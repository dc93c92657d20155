package transport

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Every connection starts with one hello frame and one answer frame:
//
//	magic (4) | version (1) | purpose or reason (1) | body length (2) | body
//
// The head is the same in every version, so that a refusal for the version can still be read.
// A body is four strings, each preceded by one length byte; so a frame is at most handshakeBytesMax long and a
// reader never allocates on a stranger's word.
const (
	protocolVersion   = 1
	frameHeadBytes    = 8
	frameStrings      = 4
	stringBytesMax    = 255
	handshakeBytesMax = frameHeadBytes + frameStrings*(1+stringBytesMax)
)

var magic = [4]byte{'Q', 'S', 'C', 'E'}

// purpose is what a connection is for.
type purpose uint8

const (
	purposeRaft purpose = 1
	purposeCall purpose = 2
)

// hello is what the dialer says first.
type hello struct {
	version  uint8
	purpose  purpose
	cluster  string
	sender   Identity
	receiver string // "" = whoever answers (calls only)
}

// answer is what the listener says to a hello.
type answer struct {
	reason  Reason
	cluster string
	self    Identity
	detail  string
}

func (h hello) encode() ([]byte, error) {
	return encodeFrame(byte(h.purpose), h.cluster, h.sender.NodeID, h.sender.Incarnation, h.receiver)
}

func (a answer) encode() ([]byte, error) {
	detail := a.detail
	if len(detail) > stringBytesMax {
		detail = detail[:stringBytesMax]
	}
	return encodeFrame(byte(a.reason), a.cluster, a.self.NodeID, a.self.Incarnation, detail)
}

func encodeFrame(tag byte, fields ...string) ([]byte, error) {
	frame := make([]byte, frameHeadBytes, handshakeBytesMax)
	copy(frame, magic[:])
	frame[4], frame[5] = protocolVersion, tag
	for _, field := range fields {
		if len(field) > stringBytesMax {
			return nil, fmt.Errorf("%w: field of %d bytes, at most %d", ErrFrame, len(field), stringBytesMax)
		}
		frame = append(frame, byte(len(field)))
		frame = append(frame, field...)
	}
	binary.BigEndian.PutUint16(frame[6:8], uint16(len(frame)-frameHeadBytes))
	return frame, nil
}

// readHello reads one hello. A frame of another version is returned with its version and nothing else, because the
// body of a version we do not know cannot be read.
func readHello(r io.Reader) (hello, error) {
	version, tag, fields, err := readFrame(r)
	if err != nil {
		return hello{}, err
	}
	h := hello{version: version, purpose: purpose(tag)}
	if version == protocolVersion {
		h.cluster, h.sender, h.receiver = fields[0], Identity{fields[1], fields[2]}, fields[3]
	}
	return h, nil
}

func readAnswer(r io.Reader) (answer, error) {
	version, tag, fields, err := readFrame(r)
	if err != nil {
		return answer{}, err
	}
	if version != protocolVersion {
		return answer{reason: ReasonVersion}, nil
	}
	return answer{reason: Reason(tag), cluster: fields[0], self: Identity{fields[1], fields[2]}, detail: fields[3]}, nil
}

// readFrame takes exactly one frame's bytes off r: what follows belongs to raft or to the call protocol.
func readFrame(r io.Reader) (version, tag uint8, fields [frameStrings]string, err error) {
	var head [frameHeadBytes]byte
	if _, err = io.ReadFull(r, head[:]); err != nil {
		return 0, 0, fields, fmt.Errorf("%w: %w", ErrFrame, err)
	}
	if [4]byte(head[:4]) != magic {
		return 0, 0, fields, fmt.Errorf("%w: starts with %q", ErrFrame, head[:4])
	}
	version, tag = head[4], head[5]
	length := int(binary.BigEndian.Uint16(head[6:8]))
	if length > handshakeBytesMax-frameHeadBytes {
		return 0, 0, fields, fmt.Errorf("%w: handshake body of %d bytes", ErrFrame, length)
	}
	body := make([]byte, length)
	if _, err = io.ReadFull(r, body); err != nil {
		return 0, 0, fields, fmt.Errorf("%w: %w", ErrFrame, err)
	}
	if version != protocolVersion {
		return version, tag, fields, nil
	}
	fields, err = splitFields(body)
	return version, tag, fields, err
}

func splitFields(body []byte) (fields [frameStrings]string, err error) {
	for i := range fields {
		if len(body) == 0 || len(body) < 1+int(body[0]) {
			return fields, fmt.Errorf("%w: truncated handshake body", ErrFrame)
		}
		end := 1 + int(body[0])
		fields[i], body = string(body[1:end]), body[end:]
	}
	if len(body) != 0 {
		return fields, fmt.Errorf("%w: %d bytes after the handshake body", ErrFrame, len(body))
	}
	return fields, nil
}
