package drain

import (
	"fmt"
	"slices"
	"time"

	"github.com/quiescehq/quiesce/mysql"
)

// verdict is what the policy says about a transaction.
type verdict struct {
	kill  bool
	wait  bool   // it is on its way to its end
	cause string // of kill
	why   string // as it is shown
}

func wait(format string, args ...any) verdict {
	v := leave(format, args...)
	v.wait = true
	return v
}

func leave(format string, args ...any) verdict {
	return verdict{why: "left alone: " + fmt.Sprintf(format, args...)}
}

// judge decides about one transaction. Where it cannot be sure whose it is it leaves it alone.
func (w *watcher) judge(t *tracked, reading mysql.Reading, now uint64) verdict {
	doomed := t.claimed && t.claim.doom != ""
	switch {
	case t.State == mysql.StateRollingBack:
		return wait("it is being undone, %d rows are left", t.RowsModified)
	case t.Thread == 0:
		return wait("it has no connection that could be ended")
	case !t.connected:
		return wait("its connection is not in the process list")
	case ofTheServer(t.Process):
		return leave("it belongs to the server itself")
	case !t.ended.IsZero() && time.Since(t.ended) < killAgainAfter:
		return wait("its connection was ended, %d rows are to be undone", t.RowsModified)
	case w.watch.Kill == KillNever:
		return leave("the policy is never")
	case doomed && (w.watch.Kill == KillOwned || !t.long(w.watch.Threshold) || !w.listed(t)):
		return w.judgeOwned(t, reading, now)
	case w.watch.Kill == KillOwned && t.claimed:
		return leave("its instance %s may have it", t.claim.name)
	case w.watch.Kill == KillOwned:
		return leave("no instance reported its connection")
	case !t.long(w.watch.Threshold):
		return leave("it is not long")
	case !w.listed(t):
		return leave("its user is not on the list")
	}
	return w.toEnd(t, "it is long, and its user is on the list")
}

func (w *watcher) judgeOwned(t *tracked, reading mysql.Reading, now uint64) verdict {
	switch doubt := w.doubt(t, reading, now); {
	case doubt != "":
		return leave("%s, but %s", t.claim.doom, doubt)
	case w.watch.Kill == KillOwned && len(w.watch.KillUsers) > 0 && !w.listed(t):
		return leave("%s, but its user is not on the list", t.claim.doom)
	}
	return w.toEnd(t, t.claim.doom)
}

func (w *watcher) toEnd(t *tracked, cause string) verdict {
	v := verdict{kill: true, cause: cause, why: "to be ended: " + cause}
	switch t.hitch {
	case mysql.KillDenied:
		v.why += "; the account lacks " + privilegeKill
	case mysql.KillUnsure:
		v.why += "; it could not be looked at again, for other readers freeze INNODB_TRX"
	}
	return v
}

// doubt tells why the reported connection may not be this one. Ids are given anew by each life of a server, so the server must have been up
// when they were reported. What an earlier leader wrote down, or what was reported before this one saw the server, may be older than cluster
// time says, which stands still without a leader; and a transaction that began after its instance had ended is then not taken for its own.
func (w *watcher) doubt(t *tracked, reading mysql.Reading, now uint64) string {
	reported := millis(now, t.claim.reportedAt)
	if t.claim.reportedAt >= w.lifeSince {
		if reading.Uptime < reported+w.task.config.PoolsSettle {
			return "its connection was reported too soon after a start of the server"
		}
		return ""
	}
	const roundedUp = 2 * time.Second // ages are in whole seconds
	switch {
	case reading.Uptime < reported+w.task.config.OutageMax+w.task.config.PoolsSettle:
		return "its connection was reported to an earlier leader, too soon after a start of the server"
	case t.claim.endedAt != 0 && t.Age+roundedUp < millis(now, t.claim.endedAt):
		return "it began after its instance had ended"
	}
	return ""
}

func millis(now, then uint64) time.Duration {
	if then >= now {
		return 0
	}
	return time.Duration(now-then) * time.Millisecond
}

func (w *watcher) listed(t *tracked) bool { return slices.Contains(w.watch.KillUsers, t.User) }

// ofTheServer tells replication and the like from clients.
func ofTheServer(p mysql.Process) bool {
	return p.User == "system user" || p.User == "event_scheduler" || p.Command == "Daemon" || p.Command == "Binlog Dump" || p.Command == "Binlog Dump GTID"
}
