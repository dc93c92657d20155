package drain

import (
	"context"
	"log/slog"

	"github.com/quiescehq/quiesce/fsm"
)

// notices tells in the log what somebody should look at: drains beyond the budget, and instances that did not stop as they should. What
// happened before this leader began was told by another.
type notices struct {
	log    Log
	logger *slog.Logger
	told   map[string]fsm.Record // by service, as of the last look
}

func newNotices(log Log, logger *slog.Logger) *notices {
	n := &notices{log: log, logger: logger}
	n.told = n.records()
	return n
}

func (n *notices) run(ctx context.Context) error {
	changed, stop := n.log.Watch("records", "")
	defer stop()
	n.tell() // what came before the watch
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			n.tell()
		}
	}
}

// records are bounded by the services that there may be.
func (n *notices) records() map[string]fsm.Record {
	all := map[string]fsm.Record{}
	n.log.View(func(s *fsm.State) {
		s.Records(func(r fsm.Record) bool {
			all[r.Service] = r
			return true
		})
	})
	return all
}

func (n *notices) tell() {
	now := n.records()
	for service, r := range now {
		was := n.told[service]
		if r.Overdrafts > was.Overdrafts {
			n.logger.Warn("beyond the budget: a platform would not wait, or a pause was forced", "service", service, "overdrafts", r.Overdrafts-was.Overdrafts)
		}
		if r.Forced > was.Forced {
			n.logger.Warn("a drain passed its deadline: the instance is counted as gone", "service", service, "instances", r.Forced-was.Forced)
		}
		if r.Lost > was.Lost {
			n.logger.Warn("a lease ended without a word: the instance is lost", "service", service, "instances", r.Lost-was.Lost)
		}
	}
	n.told = now
}
