package httpapi

import (
	"strconv"
	"strings"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

// wallMs goes into the log with what operators do, to be shown: nothing is decided by it.
func wallMs() uint64 { return uint64(time.Now().UnixMilli()) }

// listAudit is the one collection that is read backwards: the newest act is what people look for. The prefix is that of the subject.
func listAudit(v view, _ *Listing, p *page) api.Audit {
	out := api.Audit{Acts: []api.Act{}}
	before, _ := strconv.ParseUint(p.after, 10, 64)
	v.Acts(before, func(a fsm.Act) bool {
		if !strings.HasPrefix(a.Subject, p.prefix) {
			return true
		}
		if p.n == p.limit {
			p.more = true
			return false
		}
		p.n++
		p.last = strconv.FormatUint(a.ID, 10)
		out.Acts = append(out.Acts, actOf(v, a))
		return true
	})
	out.Page = p.head()
	return out
}

func actOf(v view, a fsm.Act) api.Act {
	at := time.UnixMilli(int64(a.WallMs)).UTC()
	if a.WallMs == 0 { // a deadline did it, not a request
		at = time.Now().Add(-time.Duration(v.since(a.At)) * time.Millisecond).UTC().Truncate(time.Millisecond)
	}
	return api.Act{ID: a.ID, At: at, Action: a.Action, Subject: a.Subject, By: a.By, Reason: a.Reason, Details: a.Details, Index: a.Index}
}
