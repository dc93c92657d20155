package httpapi

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

// metrics has a registry of its own: two servers in one process do not meet. Labels are routes, methods, status classes, tables and
// breakers: each a fixed or bounded set, whatever clients send.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	latency  *prometheus.HistogramVec

	deadlocks prometheus.Counter

	mu    sync.RWMutex
	known map[answered]series // of requests and latency: finding them by their labels takes longer than counting
}

// answered is a bounded set: a route has few methods, and what has no route is one.
type answered struct {
	method, route string
	class         int
}

type series struct {
	requests prometheus.Counter
	latency  prometheus.Observer
}

func newMetrics(s *Server) (*metrics, error) {
	m := &metrics{
		known:    map[answered]series{},
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "quiesce_http_requests_total", Help: "Requests answered."},
			[]string{"method", "route", "class"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "quiesce_http_request_seconds", Help: "Time to answer, parked requests included.",
			Buckets: prometheus.ExponentialBuckets(0.00025, 4, 9)}, []string{"route"}),
	}
	m.deadlocks = prometheus.NewCounter(prometheus.CounterOpts{Name: "quiesce_lock_deadlocks_total", Help: "Circles of waits that an acquire at this node closed."})
	all := append([]prometheus.Collector{m.requests, m.latency, m.deadlocks, stateCollector{s}, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})}, s.cfg.Collectors...)
	for _, c := range all {
		if err := m.registry.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry})
}

func (m *metrics) observe(method, route string, status int, took time.Duration) {
	if route == "" {
		route = "none" // the router knows no such path
		method = "any" // nor have we said which methods there are
	}
	of := m.seriesOf(answered{method, route, status / 100})
	of.requests.Inc()
	of.latency.Observe(took.Seconds())
}

func (m *metrics) seriesOf(a answered) series {
	m.mu.RLock()
	of, ok := m.known[a]
	m.mu.RUnlock()
	if ok {
		return of
	}
	of = series{m.requests.WithLabelValues(a.method, a.route, strconv.Itoa(a.class)+"xx"), m.latency.WithLabelValues(a.route)}
	m.mu.Lock()
	m.known[a] = of
	m.mu.Unlock()
	return of
}

// What is read from the state at each scrape.
var (
	descTerm     = prometheus.NewDesc("quiesce_raft_term", "Term of the last leader whose start this node has applied.", nil, nil)
	descIndex    = prometheus.NewDesc("quiesce_state_index", "Revision of the state.", nil, nil)
	descToken    = prometheus.NewDesc("quiesce_state_token", "Last token given.", nil, nil)
	descRows     = prometheus.NewDesc("quiesce_state_rows", "Rows of a table of the state.", []string{"table"}, nil)
	descLag      = prometheus.NewDesc("quiesce_outbox_lag_seconds", "Age of the oldest pending event.", nil, nil)
	descWindow   = prometheus.NewDesc("quiesce_idempotency_window_seconds", "How far back the stored results reach.", nil, nil)
	descLeader   = prometheus.NewDesc("quiesce_leader", "1 on the node that leads.", nil, nil)
	descInFlight = prometheus.NewDesc("quiesce_http_in_flight", "Requests being answered.", nil, nil)
	descGrants   = prometheus.NewDesc("quiesce_drain_grants_total", "Drains granted, since the service was declared.", []string{"service"}, nil)
	descOver     = prometheus.NewDesc("quiesce_drain_overdrafts_total", "Drains and pauses beyond the budget.", []string{"service"}, nil)
	descForced   = prometheus.NewDesc("quiesce_instances_forced_total", "Instances whose drain passed its deadline.", []string{"service"}, nil)
	descLost     = prometheus.NewDesc("quiesce_instances_lost_total", "Instances whose lease ended without a word.", []string{"service"}, nil)
	descPlaces   = prometheus.NewDesc("quiesce_service_instances", "Instances as the budget counts them.", []string{"service", "as"}, nil)
	descEvents   = prometheus.NewDesc("quiesce_outbox_events", "Events by mapping and state.", []string{"mapping", "state"}, nil)
	descEventLag = prometheus.NewDesc("quiesce_outbox_mapping_lag_seconds", "Age of a mapping's oldest pending event.", []string{"mapping"}, nil)
	descDoubt    = prometheus.NewDesc("quiesce_mapping_in_doubt", "1 while the cache may have lost acknowledged writes.", []string{"mapping"}, nil)
	descOutcomes = prometheus.NewDesc("quiesce_outbox_deliveries_total", "What became of the deliveries of this process.", []string{"mapping", "outcome"}, nil)
	descBreaker  = prometheus.NewDesc("quiesce_breaker_open", "0 closed, 0.5 half open, 1 open.", []string{"name"}, nil)
)

// countedTables are those whose size is worth a graph.
var countedTables = [...]string{"nodes", "sessions", "locks", "tickets", "stored", "services", "instances", "mappings", "events", "prepared", "dead", "passes", "schedules", "plans", "cleanups"}

type stateCollector struct{ s *Server }

func (c stateCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range append([]*prometheus.Desc{descTerm, descIndex, descToken, descRows, descLag, descWindow, descLeader, descInFlight, descBreaker, descEvents, descEventLag, descDoubt, descOutcomes, descGrants, descOver, descForced, descLost, descPlaces}, passDescs...) {
		out <- d
	}
}

func (c stateCollector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	var term, index, token, windowMs uint64
	var outbox api.OutboxStats
	rows := [len(countedTables)]int{}
	c.s.view(func(v view) {
		term, index, token = v.Term(), v.Revision(), v.Token()
		outbox, windowMs = c.s.statsOf(v), v.KeyWindow().OldestMs
		for i, table := range countedTables {
			rows[i] = v.Rows(table)
		}
	})
	gauge(descTerm, float64(term))
	gauge(descIndex, float64(index))
	gauge(descToken, float64(token))
	gauge(descLag, float64(outbox.LagMs)/1_000)
	gauge(descWindow, float64(windowMs)/1_000)
	for i, table := range countedTables {
		gauge(descRows, float64(rows[i]), table)
	}
	c.collectServices(out)
	collectMappings(out, outbox.Mappings)
	c.collectPasses(gauge)
	c.collectAgreement(out)
	leads := 0.0
	if c.s.rep.Leader().Self {
		leads = 1
	}
	gauge(descLeader, leads)
	gauge(descInFlight, float64(c.s.inFlight.Load()))
	for _, b := range c.s.breakers() {
		gauge(descBreaker, openness(b.State), b.Name)
	}
}

// collectMappings is bounded by fsm.MappingsMax.
func collectMappings(out chan<- prometheus.Metric, mappings []api.MappingOutbox) {
	for _, m := range mappings {
		add := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
			out <- prometheus.MustNewConstMetric(d, kind, v, append([]string{m.Mapping}, labels...)...)
		}
		doubt := 0.0
		if m.Doubt != nil {
			doubt = 1
		}
		add(descEvents, prometheus.GaugeValue, float64(m.Pending), "pending")
		add(descEvents, prometheus.GaugeValue, float64(m.Dead), "dead")
		add(descEventLag, prometheus.GaugeValue, float64(m.LagMs)/1_000)
		add(descDoubt, prometheus.GaugeValue, doubt)
		add(descOutcomes, prometheus.CounterValue, float64(m.Delivered), "delivered")
		add(descOutcomes, prometheus.CounterValue, float64(m.Superseded), "superseded")
		add(descOutcomes, prometheus.CounterValue, float64(m.Failed), "failed")
	}
}

// collectServices is bounded by fsm.ServicesMax.
func (c stateCollector) collectServices(out chan<- prometheus.Metric) {
	var all []prometheus.Metric
	add := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		all = append(all, prometheus.MustNewConstMetric(d, kind, v, labels...))
	}
	c.s.view(func(v view) {
		v.Services("", func(x fsm.Service) bool {
			r, _ := v.Record(x.Name)
			o := v.Occupancy(x.Name)
			add(descGrants, prometheus.CounterValue, float64(r.Grants), x.Name)
			add(descOver, prometheus.CounterValue, float64(r.Overdrafts), x.Name)
			add(descForced, prometheus.CounterValue, float64(r.Forced), x.Name)
			add(descLost, prometheus.CounterValue, float64(r.Lost), x.Name)
			for as, n := range map[string]int{"expected": o.Expected, "available": o.Available, "unavailable": o.Unavailable, "queued": o.Queued} {
				add(descPlaces, prometheus.GaugeValue, float64(n), x.Name, as)
			}
			return true
		})
	})
	for _, m := range all {
		out <- m
	}
}

func openness(state string) float64 {
	switch state {
	case "open":
		return 1
	case "half_open":
		return 0.5
	}
	return 0
}
