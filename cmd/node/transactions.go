package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/drain"
	"github.com/quiescehq/quiesce/httpapi"
	"github.com/quiescehq/quiesce/mysql"
)

// WatchConfig says how the long transactions of a source are watched. What is left out is the default.
type WatchConfig struct {
	DSN       string        `yaml:"dsn"` // an account of its own, on the same server; the source's when empty
	Threshold time.Duration `yaml:"threshold"`
	Every     time.Duration `yaml:"every"`
	Kill      string        `yaml:"kill"`
	KillUsers []string      `yaml:"kill_users"`
}

func (c WatchConfig) drain() drain.Watch {
	w := drain.DefaultWatch()
	if c.Threshold != 0 {
		w.Threshold = c.Threshold
	}
	if c.Every != 0 {
		w.Every = c.Every
	}
	if c.Kill != "" {
		w.Kill = drain.Policy(c.Kill)
	}
	w.KillUsers = c.KillUsers
	return w
}

func (c *Config) drain() drain.Config {
	d := drain.Default()
	d.OutageMax = c.OutageMax
	return d
}

// withoutPrefix leaves out the name of the package: the message names the key.
func withoutPrefix(err, sentinel error) string {
	return strings.TrimPrefix(err.Error(), sentinel.Error()+": ")
}

func openReader(name string, c SourceConfig) (*mysql.TransactionReader, error) {
	dsn := c.DSN
	if c.Watch.DSN != "" {
		dsn = c.Watch.DSN
	}
	reader, err := mysql.OpenTransactions(mysql.Config{Name: name, DSN: dsn})
	if err != nil {
		return nil, fmt.Errorf("watch: %w", err)
	}
	return reader, nil
}

func (p *places) drainPlaces() (map[string]drain.Source, map[string]drain.Target) {
	sources, targets := map[string]drain.Source{}, map[string]drain.Target{}
	for name, r := range p.readers {
		sources[name] = drain.Source{Reader: r, Watch: p.cfg.Sources[name].Watch.drain()}
	}
	for name, t := range p.targets {
		targets[name] = drain.Redis(t)
	}
	return sources, targets
}

// transactionsView is the watch as the edge shows it. It implements httpapi.Transactions.
type transactionsView struct{ task *drain.Task }

// Transactions implements httpapi.Transactions.
func (v transactionsView) Transactions(context.Context) api.Transactions {
	status := v.task.Status()
	out := api.Transactions{Transactions: []api.Transaction{}, Sources: []api.TransactionSource{}}
	for _, t := range status.Transactions {
		out.Transactions = append(out.Transactions, api.Transaction{
			ID: t.ID, Source: t.Source, Thread: t.Thread, Trx: t.Trx, State: t.State, User: t.User, Host: t.Host, Command: t.Command,
			StartedAt: time.Unix(t.StartedAt, 0).UTC(), AgeMs: uint64(t.Age.Milliseconds()), RowsModified: t.RowsModified, RowsLocked: t.RowsLocked,
			Statement: t.Statement, Instance: t.Instance, InstanceName: t.InstanceName, Killed: t.Killed, Verdict: t.Verdict,
		})
	}
	for _, s := range status.Sources {
		out.Sources = append(out.Sources, api.TransactionSource{
			Source: s.Source, ThresholdMs: uint64(s.Threshold.Milliseconds()), Policy: string(s.Policy), Reachable: s.Reachable, Missing: s.Missing,
			Detail: s.Detail, Killed: s.Killed, SeenAgeMs: uint64(s.SeenAge.Milliseconds()),
		})
	}
	return out
}

// KillTransaction implements httpapi.Transactions.
func (v transactionsView) KillTransaction(ctx context.Context, id, reason string) (api.KillVerdict, error) {
	verdict, err := v.task.Kill(ctx, id, reason)
	switch {
	case errors.Is(err, drain.ErrTransactionNotFound):
		return api.KillVerdict{}, httpapi.ErrTransactionNotFound
	case errors.Is(err, drain.ErrSourceUnreachable):
		return api.KillVerdict{}, fmt.Errorf("%w: %s", httpapi.ErrSourceUnreachable, withoutPrefix(err, drain.ErrSourceUnreachable))
	case err != nil:
		return api.KillVerdict{}, err
	}
	return api.KillVerdict{Killed: verdict.Killed, Detail: verdict.Detail}, nil
}

var (
	descLong    = prometheus.NewDesc("quiesce_transactions_long", "Transactions open for longer than the threshold, as the leader sees them.", []string{"source"}, nil)
	descOldest  = prometheus.NewDesc("quiesce_transactions_oldest_seconds", "Age of the oldest open transaction, as the leader sees it.", []string{"source"}, nil)
	descKilled  = prometheus.NewDesc("quiesce_transactions_killed_total", "Connections that this node has ended.", []string{"source"}, nil)
	descMissing = prometheus.NewDesc("quiesce_transactions_missing_privileges", "Privileges that the account of the watch lacks.", []string{"source"}, nil)
	descWatched = prometheus.NewDesc("quiesce_transactions_watched", "1 while the leader can read the source's transactions.", []string{"source"}, nil)
)

// transactionsCollector gives the figures of the watch on the node that leads.
type transactionsCollector struct{ task *drain.Task }

// Describe implements prometheus.Collector.
func (c transactionsCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descLong, descOldest, descKilled, descMissing, descWatched} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c transactionsCollector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, source string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, source)
	}
	for _, s := range c.task.Status().Sources {
		watched := 0.0
		if s.Watched {
			watched = 1
		}
		gauge(descLong, float64(s.Long), s.Source)
		gauge(descOldest, s.Oldest.Seconds(), s.Source)
		gauge(descMissing, float64(len(s.Missing)), s.Source)
		gauge(descWatched, watched, s.Source)
		out <- prometheus.MustNewConstMetric(descKilled, prometheus.CounterValue, float64(s.Killed), s.Source)
	}
}
