package relay

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mysql"
)

// purger removes fences of one source that are of no use any more.
type purger struct {
	task   *Task
	name   string
	source Source
	logger *slog.Logger
	fails  complaint
}

func newPurger(t *Task, name string) *purger {
	logger := t.Logger.With("source", name)
	return &purger{task: t, name: name, source: t.Sources[name], logger: logger, fails: complaint{logger: logger, what: "fences are not purged"}}
}

func (p *purger) run(ctx context.Context) error {
	timer := time.NewTimer(p.task.config.PurgeEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		timer.Reset(p.task.config.PurgeEvery)
		if !p.task.paused(p.name) {
			p.purge(ctx)
		}
	}
}

func (p *purger) purge(ctx context.Context) {
	cluster := p.task.Log.ClusterID()
	rule := mysql.FencePurge{CommittedAfter: p.task.config.CommittedAfter, ProbedAfter: p.task.config.TransactionMax,
		Keep: func(fence string) int { return p.use(cluster, fence) }}
	purged, err := p.source.PurgeFences(ctx, rule)
	switch {
	case ctx.Err() != nil:
		return
	case err != nil:
		p.fails.fail(reason(err), err)
		return
	}
	p.fails.recover()
	if purged > 0 {
		p.logger.Debug("fences purged", "fences", purged)
	}
}

// use tells whether the prepared events of a fence wait. A prepare is in the log before its fence can be in the table.
func (p *purger) use(cluster, fence string) int {
	digits, ours := strings.CutPrefix(fence, cluster+".p")
	id, err := strconv.ParseUint(digits, 10, 64)
	if !ours || err != nil || fsm.FenceID(cluster, id) != fence {
		return mysql.FenceAlien
	}
	waiting := false
	p.task.Log.View(func(s *fsm.State) { _, waiting = s.Prepared(id) })
	if waiting {
		return mysql.FenceInUse
	}
	return mysql.FenceOver
}
