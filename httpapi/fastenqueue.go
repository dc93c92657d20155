package httpapi

import (
	"bytes"
	"encoding/json"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

// fastEnqueue is for a call with many events: decoding a thousand into a tree, holding that to its schema and decoding them again cost more than all that is done with them.
func (s *Server) fastEnqueue(c *gin.Context) bool {
	l := lean{b: rawBody(c)}
	b := l.enqueue()
	key, ok := fastKey(c)
	if !l.end() || !ok || len(b.Events) == 0 || len(b.Events) > api.EventsMax {
		return false
	}
	ctx := c.Request.Context()
	rows, spans, err := s.rowsOf(ctx, b.Events)
	if err != nil {
		return false
	}
	r, err := s.propose(ctx, fsm.Op{Command: fsm.EnqueueEvents{Events: rows, Spans: spans}, Key: key})
	if err != nil {
		s.fastProblem(c, err)
		return true
	}
	body := append(make([]byte, 0, 32+24*len(r.Outbox.Tokens)), `{"events":[`...)
	for i, t := range r.Outbox.Tokens {
		if i > 0 {
			body = append(body, ',')
		}
		body = appendField(body, `{"token":`, t.Token)
		if t.Coalesced {
			body = append(body, `,"coalesced":true`...)
		}
		body = append(body, '}')
	}
	writeFast(c, http.StatusOK, r.Index, append(body, `]}`...))
	return true
}

func (l *lean) enqueue() (b api.EnqueueEvents) {
	n := min(bytes.Count(l.b, []byte(`"mapping"`)), api.EventsMax)
	room := make([]json.RawMessage, 0, n) // for the parts of the usual keys: what does not fit gets its own
	b.Events = make([]api.RowEvent, 0, n)
	l.object(func(name []byte) int {
		if string(name) != "events" {
			return -1
		}
		before := ""
		l.array(func() {
			var e api.RowEvent
			e, room = l.rowEvent(before, room)
			b.Events, before = append(b.Events, e), e.Mapping
			if len(b.Events) > api.EventsMax {
				l.fail()
			}
		})
		return 0
	})
	return b
}

// rowEvent reads an event. It shares the name of its mapping with the one before it where both are of the same.
func (l *lean) rowEvent(before string, room []json.RawMessage) (e api.RowEvent, left []json.RawMessage) {
	l.object(func(name []byte) int {
		switch string(name) {
		case "mapping":
			if m := l.bytes(); string(m) == before {
				e.Mapping = before
			} else if e.Mapping = string(m); !slug.MatchString(e.Mapping) {
				l.fail()
			}
			return 0
		case "pk":
			e.PK, room = l.keyParts(room)
			return 1
		case "old_key":
			e.OldKey, room = l.keyParts(room)
			return 2
		case "new_key":
			e.NewKey, room = l.keyParts(room)
			return 3
		}
		return -1
	})
	if e.Mapping == "" {
		l.fail()
	}
	return e, room
}

// keyParts reads a key; its parts stay pieces of the body.
func (l *lean) keyParts(room []json.RawMessage) (key, left []json.RawMessage) {
	from := len(room)
	l.array(func() {
		l.space()
		start := l.at
		if start < len(l.b) && l.b[start] == '"' {
			l.bytes()
		} else {
			l.number(api.TokenMax)
		}
		room = append(room, l.b[start:l.at:l.at])
		if len(room)-from > api.PKPartsMax {
			l.fail()
		}
	})
	return room[from:len(room):len(room)], room
}
