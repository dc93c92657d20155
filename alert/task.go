package alert

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quiescehq/quiesce/fsm"
)

// Log is what the task needs of the replicated log.
type Log interface {
	// View runs f over the state under a read lock.
	View(f func(*fsm.State))
	// ClusterID is the id of the cluster.
	ClusterID() string
}

// Task tells the hooks while this node leads.
type Task struct {
	cfg    Config
	log    Log
	node   string
	logger *slog.Logger
	client *http.Client
}

// New checks the configuration; the error wraps [ErrConfig].
func New(cfg Config, log Log, node string, logger *slog.Logger) (*Task, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Task{cfg: cfg, log: log, node: node, logger: logger, client: &http.Client{
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Name is the task's name in logs.
func (t *Task) Name() string { return "alert" }

// Run tells until ctx ends, and then answers nil.
func (t *Task) Run(ctx context.Context) error {
	if len(t.cfg.Hooks) == 0 {
		<-ctx.Done()
		return nil
	}
	defer t.client.CloseIdleConnections()
	group, ctx := errgroup.WithContext(ctx)
	tellers := make([]*teller, len(t.cfg.Hooks))
	least := t.cfg.Hooks[0].lag()
	for i, h := range t.cfg.Hooks {
		tellers[i] = newTeller(t, h)
		least = min(least, h.lag())
		group.Go(func() error { tellers[i].run(ctx); return nil })
	}
	ticker := time.NewTicker(t.cfg.Every)
	defer ticker.Stop()
	for ctx.Err() == nil {
		var now map[subject]Notice
		t.log.View(func(s *fsm.State) { now = conditions(s, least) })
		for _, teller := range tellers {
			teller.hear(maps.Clone(now))
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
	return group.Wait()
}
