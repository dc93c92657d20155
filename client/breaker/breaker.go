package breaker

import (
	"errors"
	"log/slog"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/quiescehq/quiesce/client"
)

const (
	// PercentDefault of failures opens the circuit.
	PercentDefault = 50
	// RequestsDefault is how many outcomes must be known before it opens: one of two is no sign of trouble.
	RequestsDefault = 20
	// WindowDefault is how long an outcome counts.
	WindowDefault = 10 * time.Second
	// OpenDefault is how long nobody is asked.
	OpenDefault = 5 * time.Second
	// ProbesDefault is how many are let through afterwards, and must all succeed.
	ProbesDefault = 5

	buckets = 10 // of the window: an outcome is forgotten up to a tenth of it late
)

// Breaker is a client.Breaker. Make one with New.
type Breaker struct {
	circuit *gobreaker.TwoStepCircuitBreaker[struct{}]
}

type options struct {
	percent  float64
	requests uint32
	window   time.Duration
	open     time.Duration
	probes   uint32
	log      *slog.Logger
}

// Option changes a breaker. A value that makes no sense leaves the default.
type Option func(*options)

// Percent of failures opens the circuit, from 1 to 100.
func Percent(p float64) Option {
	return func(o *options) {
		if p > 0 && p <= 100 {
			o.percent = p
		}
	}
}

// Requests is how many outcomes must be known before it opens.
func Requests(n int) Option {
	return func(o *options) {
		if n > 0 {
			o.requests = uint32(n)
		}
	}
}

// Window is how long an outcome counts.
func Window(d time.Duration) Option {
	return func(o *options) {
		if d > 0 {
			o.window = d
		}
	}
}

// Open is how long nobody is asked.
func Open(d time.Duration) Option {
	return func(o *options) {
		if d > 0 {
			o.open = d
		}
	}
}

// Probes is how many are let through after that.
func Probes(n int) Option {
	return func(o *options) {
		if n > 0 {
			o.probes = uint32(n)
		}
	}
}

// Logger makes the breaker tell when it opens and closes. It is silent by default.
func Logger(l *slog.Logger) Option { return func(o *options) { o.log = l } }

// New makes a breaker; the name is for the log.
func New(name string, opts ...Option) *Breaker {
	o := options{percent: PercentDefault, requests: RequestsDefault, window: WindowDefault, open: OpenDefault, probes: ProbesDefault,
		log: slog.New(slog.DiscardHandler)}
	for _, opt := range opts {
		opt(&o)
	}
	return &Breaker{gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Name:         name,
		MaxRequests:  o.probes,
		Interval:     o.window,
		BucketPeriod: max(o.window/buckets, time.Nanosecond),
		Timeout:      o.open,
		ReadyToTrip:  o.trips,
		IsExcluded:   func(err error) bool { return errors.Is(err, client.ErrNotCounted) },
		OnStateChange: func(name string, from, to gobreaker.State) {
			o.log.Warn("circuit", "name", name, "from", from.String(), "to", to.String())
		},
	})}
}

// trips counts what has ended: what is under way has said nothing yet.
func (o *options) trips(c gobreaker.Counts) bool {
	ended := c.TotalSuccesses + c.TotalFailures
	return ended >= o.requests && float64(c.TotalFailures)*100 >= o.percent*float64(ended)
}

// Allow implements client.Breaker.
func (b *Breaker) Allow() (func(error), error) { return b.circuit.Allow() }

// State is closed, half-open or open.
func (b *Breaker) State() string { return b.circuit.State().String() }
