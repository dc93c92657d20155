package failover

import (
	"strings"
	"time"

	"github.com/quiescehq/quiesce/rediscache"
)

// poll is one answer of a target, and when it was asked by the local clock.
type poll struct {
	at time.Time
	id rediscache.Identity
}

// describe names the lives of a target's servers, for the log.
func describe(id rediscache.Identity) string {
	var b strings.Builder
	for _, s := range id.Servers {
		b.WriteString(s.Addr + "=" + s.Life() + "\n")
	}
	return b.String()
}

// loss is what a change of a target may have cost.
type loss struct {
	none  bool
	since time.Time // what was written from then on may be gone; meaningful if known
	known bool
	why   string
}

// judge compares a target with what it was, newest poll last. Without a memory nothing is known.
func judge(history []poll, now rediscache.Identity) loss {
	if len(history) == 0 {
		return loss{why: "another server answers, and this leader did not see the one before"}
	}
	last := history[len(history)-1]
	out := loss{none: true, known: true}
	for _, old := range last.id.Servers {
		since, why := lost(history, old, now)
		if why == "" {
			continue
		}
		if out.none || since.Before(out.since) {
			out.since = since
		}
		out.none, out.why = false, why
		out.known = out.known && !since.IsZero()
	}
	return out
}

// lost tells since when writes to a server may be gone, and why; no reason if none are. The zero time means that it is not known.
func lost(history []poll, old rediscache.Server, now rediscache.Identity) (since time.Time, why string) {
	last := history[len(history)-1]
	for _, s := range now.Servers {
		switch {
		case s.Addr != old.Addr:
			continue
		case s.RunID != old.RunID:
			return restarted(last, old)
		case s.ReplID == old.ReplID, len(old.Replicas) == 0: // one that has had no replicas for an hour names its stream anew
			return time.Time{}, ""
		}
		return time.Time{}, "the Redis server was a replica for a while"
	}
	return takenOver(history, old, now)
}

// restarted reads off the server's last words what its disk had.
func restarted(last poll, old rediscache.Server) (since time.Time, why string) {
	switch durable := old.DurableSince(); durable {
	case rediscache.NothingLost:
		return time.Time{}, ""
	case 0:
		return time.Time{}, "the Redis server was restarted, and kept nothing on disk that could be relied on"
	default:
		return last.at.Add(-time.Duration(old.ClockMillis-durable) * time.Millisecond), "the Redis server was restarted"
	}
}

// takenOver finds what the new primary had acknowledged as a replica, and when the old one was that far.
func takenOver(history []poll, old rediscache.Server, now rediscache.Identity) (since time.Time, why string) {
	why = "another Redis server took over"
	acknowledged := int64(-1)
	for _, s := range now.Servers {
		for _, r := range old.Replicas {
			if r.Addr == s.Addr && r.Online {
				acknowledged = r.Offset
			}
		}
	}
	if acknowledged < 0 {
		return time.Time{}, why
	}
	for i := len(history) - 1; i >= 0; i-- {
		for _, s := range history[i].id.Servers {
			if s.Life() == old.Life() && s.Offset <= acknowledged {
				return history[i].at, why
			}
		}
	}
	return time.Time{}, why
}
