package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/httpapi"
	"github.com/quiescehq/quiesce/mysql"
	"github.com/quiescehq/quiesce/relay"
)

// OutboxConfig is the account for a source's quiesce tables. Without it nothing is relayed, and no fence is looked at.
type OutboxConfig struct {
	DSN            string        `yaml:"dsn"`             // in the business schema
	TransactionMax time.Duration `yaml:"transaction_max"` // no transaction is open for longer
}

// relay is the configuration of the relays. They have one for all; the longest transaction counts.
func (c *Config) relay() relay.Config {
	r := relay.Default()
	var longest time.Duration
	for _, s := range c.Sources {
		if s.Outbox.DSN != "" {
			longest = max(longest, cmp.Or(s.Outbox.TransactionMax, r.TransactionMax))
		}
	}
	r.TransactionMax = cmp.Or(longest, r.TransactionMax)
	return r
}

func openOutbox(name string, c OutboxConfig) (*mysql.OutboxSource, error) {
	source, err := mysql.OpenOutbox(mysql.Config{Name: name, DSN: c.DSN})
	if err != nil {
		return nil, fmt.Errorf("outbox: %w", err)
	}
	return source, nil
}

func (p *places) relayPlaces() map[string]relay.Source {
	sources := map[string]relay.Source{}
	for name, s := range p.outboxes {
		sources[name] = s
	}
	return sources
}

// rowMapper is the edge's mappings as the relay wants them. It implements relay.Mapper.
type rowMapper struct{ httpapi.Mappings }

// Keys implements relay.Mapper.
func (m rowMapper) Keys(ctx context.Context, record fsm.Mapping, row relay.Keys) ([]string, error) {
	keys, err := m.Mappings.Keys(ctx, record, httpapi.RowKeys{PK: row.PK, Old: row.Old, New: row.New})
	var invalid *httpapi.InvalidError
	if errors.As(err, &invalid) {
		return nil, fmt.Errorf("%w: %s", relay.ErrKey, invalid.Error())
	}
	return keys, err
}

// relaysView is the relays as the edge shows them. It implements httpapi.Relays.
type relaysView struct{ task *relay.Task }

// Relays implements httpapi.Relays.
func (v relaysView) Relays() []api.Relay {
	out := []api.Relay{}
	for _, s := range v.task.Status() {
		if !s.Running {
			continue
		}
		x := api.Relay{Source: s.Source, State: s.State, Detail: s.Detail, Relayed: s.Relayed, Refused: s.Refused, OldestMs: uint64(s.Oldest.Milliseconds())}
		if s.Drained >= 0 {
			x.DrainedMs = max(uint64(s.Drained.Milliseconds()), 1)
		}
		out = append(out, x)
	}
	return out
}

// Serves implements httpapi.Relays.
func (v relaysView) Serves(source string) bool { return v.task.Serves(source) }

// Nudge implements httpapi.Relays.
func (v relaysView) Nudge(source string) bool { return v.task.Nudge(source) }

var (
	descRelayed      = prometheus.NewDesc("quiesce_relay_rows_total", "Rows of the outbox table that this node has made events of.", []string{"source"}, nil)
	descRelayRefused = prometheus.NewDesc("quiesce_relay_refused_total", "Rows of the outbox table that this node has set aside.", []string{"source"}, nil)
	descRelayOldest  = prometheus.NewDesc("quiesce_relay_oldest_seconds", "Age of the first row of the last reading, as the leader sees it.", []string{"source"}, nil)
	descRelayRuns    = prometheus.NewDesc("quiesce_relay_running", "1 while the leader relays rows of the source.", []string{"source"}, nil)
	descFencesOpen   = prometheus.NewDesc("quiesce_relay_fences_open", "Fences that the leader's last look found held by an open transaction.", []string{"source"}, nil)
)

// relayCollector gives the figures of the relays; those that are not counters only on the node that leads.
type relayCollector struct{ task *relay.Task }

// Describe implements prometheus.Collector.
func (c relayCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descRelayed, descRelayRefused, descRelayOldest, descRelayRuns, descFencesOpen} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c relayCollector) Collect(out chan<- prometheus.Metric) {
	for _, s := range c.task.Status() {
		out <- prometheus.MustNewConstMetric(descRelayed, prometheus.CounterValue, float64(s.RelayedTotal), s.Source)
		out <- prometheus.MustNewConstMetric(descRelayRefused, prometheus.CounterValue, float64(s.RefusedTotal), s.Source)
		if !s.Running {
			continue
		}
		runs := 0.0
		if s.State == relay.StateRunning {
			runs = 1
		}
		out <- prometheus.MustNewConstMetric(descRelayOldest, prometheus.GaugeValue, s.Oldest.Seconds(), s.Source)
		out <- prometheus.MustNewConstMetric(descRelayRuns, prometheus.GaugeValue, runs, s.Source)
		out <- prometheus.MustNewConstMetric(descFencesOpen, prometheus.GaugeValue, float64(s.Open), s.Source)
	}
}
