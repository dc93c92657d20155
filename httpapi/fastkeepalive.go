package httpapi

import (
	"github.com/gin-gonic/gin"

	"github.com/quiescehq/quiesce/api"
)

// fastKeepalive is for the request that a cluster answers more often than any other, with a thousand sessions in it.
func (s *Server) fastKeepalive(c *gin.Context) bool {
	l := lean{b: rawBody(c)}
	b := l.keepalive()
	if !l.end() || len(b.IDs) == 0 || len(b.IDs) > api.KeepaliveIDsMax {
		return false
	}
	for _, id := range b.IDs {
		if checkID("body.ids", id) != nil {
			return false
		}
	}
	a, err := s.renewSessions(c.Request.Context(), b.IDs)
	if err != nil {
		s.fastProblem(c, err)
		return true
	}
	body := append(make([]byte, 0, 64+100*len(b.IDs)), `{"sessions":[`...)
	for i, lease := range a.Body.Sessions {
		if i > 0 {
			body = append(body, ',')
		}
		body = appendLease(body, lease)
	}
	writeFast(c, a.Status, a.Index, append(body, `]}`...))
	return true
}

// appendLease writes what encoding/json would write.
func appendLease(b []byte, lease api.SessionLease) []byte {
	if len(lease.Revoked) > 0 {
		return append(b, raw(lease)...)
	}
	b = appendText(append(b, `{"id":`...), lease.ID)
	if lease.Gone {
		b = append(b, `,"gone":true`...)
	}
	if lease.TTLMs > 0 {
		b = appendField(b, `,"ttl_ms":`, lease.TTLMs)
	}
	if lease.RemainingMs > 0 {
		b = appendField(b, `,"remaining_ms":`, lease.RemainingMs)
	}
	return append(b, '}')
}

func (l *lean) keepalive() (b api.KeepaliveSessions) {
	l.object(func(name []byte) int {
		if string(name) != "ids" {
			return -1
		}
		l.array(func() { b.IDs = append(b.IDs, l.text(api.IDBytesMax)) })
		return 0
	})
	return b
}
