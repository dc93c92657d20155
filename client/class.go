package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"sync/atomic"
	"time"
)

// The built-in classes, and how long their work may take.
const (
	ClassLocal    = "local"    // this process, its database, its cache
	ClassService  = "service"  // another service of the house
	ClassExternal = "external" // whatever is beyond
)

const (
	// ClassesMax bounds the classes of an instance: each is a counter that travels to the coordinator.
	ClassesMax = 8
	// ConcurrentDefault is how much of a class may be in flight at once.
	ConcurrentDefault = 100
)

var builtinDeadlines = map[string]time.Duration{
	ClassLocal:    100 * time.Millisecond,
	ClassService:  800 * time.Millisecond,
	ClassExternal: 3 * time.Second,
}

var (
	// ErrClassFull says that as much of a class is in flight as may be.
	ErrClassFull = errors.New("client: the class is full")
	// ErrCircuitOpen says that the breaker of a class lets nothing through.
	ErrCircuitOpen = errors.New("client: the circuit is open")
	// ErrClassDeadline is the cause of a context that its class ended.
	ErrClassDeadline = errors.New("client: over the deadline of the class")
	// ErrNotCounted tells a Breaker that work has ended and says nothing about what the breaker protects: neither success nor failure.
	ErrNotCounted = errors.New("client: not counted")
)

// ClassError says which class refused or ended work. Its cause is ErrClassFull, ErrCircuitOpen or ErrClassDeadline.
type ClassError struct {
	Class string
	Err   error
}

func (e *ClassError) Error() string { return fmt.Sprintf("class %s: %v", e.Class, e.Err) }
func (e *ClassError) Unwrap() error { return e.Err }

// Breaker decides whether a class takes more work: a circuit breaker, such as that of package breaker.
//
// Allow is asked before each request or call, possibly by many goroutines at once, and must not block. An error refuses the work. Otherwise
// done is called once when the work ends: with nil for a success, ErrNotCounted for neither, and any other error for a failure.
type Breaker interface {
	Allow() (done func(err error), err error)
}

// Class is a kind of work, by how far it reaches: what is in flight of it is counted, limited and given a deadline. It serves requests
// ([Class.Handler]) and calls to others ([Class.Do]) alike, and may be shared.
type Class struct {
	name     string
	deadline time.Duration
	max      int64
	breaker  Breaker
	fails    func(error) bool
	log      *slog.Logger

	inFlight atomic.Int64
	overdue  sparse
}

// ClassOption configures a class.
type ClassOption func(*Class)

// Concurrent changes how much of the class may be in flight at once.
func Concurrent(n int) ClassOption { return func(c *Class) { c.max = int64(n) } }

// WithBreaker puts a circuit breaker into the class. Its verdict comes after the limit's: what is refused as too much is no sign of trouble.
func WithBreaker(b Breaker) ClassOption { return func(c *Class) { c.breaker = b } }

// Failures tells which errors of Do are failures to the breaker; the others are successes, such as a "not found" that the other side has
// answered in good health. By default every error is a failure.
func Failures(fails func(error) bool) ClassOption { return func(c *Class) { c.fails = fails } }

// classes are those of one instance.
type classes struct {
	mu     sync.Mutex
	byName map[string]*Class
}

var className = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}$`)

// Class gives a class, and makes it at its first mention. A deadline of 0 is that of the built-in class, or the one it was made with.
// What is in flight of it is reported as in_flight.<name>.
//
// It panics on what only a mistake in the program can be, as http.Handle does: an invalid name, a class of its own without a deadline, a
// class that was made otherwise before, and one above ClassesMax.
func (a *App) Class(name string, deadline time.Duration, opts ...ClassOption) *Class {
	s := &a.gate.classes
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, made := s.byName[name]; made {
		if len(opts) > 0 || deadline != 0 && deadline != c.deadline {
			panic(fmt.Sprintf("client: class %q was made with a deadline of %v; give the options where it is made", name, c.deadline))
		}
		return c
	}
	c := newClass(name, deadline, a.log, opts)
	if len(s.byName) >= ClassesMax {
		panic(fmt.Sprintf("client: class %q is one above %d", name, ClassesMax))
	}
	if s.byName == nil {
		s.byName = map[string]*Class{}
	}
	s.byName[name] = c
	a.Counter("in_flight."+name, func() uint64 { return uint64(c.InFlight()) })
	return c
}

func newClass(name string, deadline time.Duration, log *slog.Logger, opts []ClassOption) *Class {
	if deadline == 0 {
		deadline = builtinDeadlines[name]
	}
	c := &Class{name: name, deadline: deadline, max: ConcurrentDefault, log: log}
	for _, o := range opts {
		o(c)
	}
	if !className.MatchString(name) || deadline <= 0 || c.max <= 0 {
		panic(fmt.Sprintf("client: class %q with a deadline of %v and room for %d", name, deadline, c.max))
	}
	return c
}

// Name gives the name.
func (c *Class) Name() string { return c.name }

// InFlight is how much of the class is under way.
func (c *Class) InFlight() int64 { return c.inFlight.Load() }

// Do runs a call under the class: it refuses with a *ClassError if there is too much under way or the circuit is open, and ends the
// context of work at the deadline, or at that of ctx if it comes first. Otherwise the error is that of work, which must heed its context.
//
// To the breaker an error is a failure, and so is a deadline that has passed, whatever came of the work; the end of ctx, whoever ended it,
// and the refusal of another class say nothing. See [Failures].
func (c *Class) Do(ctx context.Context, work func(ctx context.Context) error) error {
	t, err := c.begin(ctx)
	if err != nil {
		return err
	}
	err = errPanic
	defer func() { t.end(c.judge(err)) }()
	err = work(t.ctx)
	return err
}

var errPanic = errors.New("client: the work ended in a panic")

func (c *Class) judge(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrClassFull), errors.Is(err, ErrCircuitOpen), errors.Is(err, ErrStopping):
		return ErrNotCounted
	case c.fails != nil && err != errPanic && !c.fails(err):
		return nil
	}
	return err
}

// turn is one piece of work of a class.
type turn struct {
	class  *Class
	parent context.Context
	ctx    context.Context
	cancel context.CancelFunc
	over   *ClassError // the cause of ctx if the deadline ended it
	quiet  func() bool
	done   func(error) // nil without a breaker
}

// begin counts work in, or refuses it.
func (c *Class) begin(parent context.Context) (*turn, error) {
	if !c.enter() {
		return nil, c.refused(parent, ErrClassFull)
	}
	t := &turn{class: c, parent: parent, over: &ClassError{Class: c.name, Err: ErrClassDeadline}}
	if c.breaker != nil {
		done, err := c.breaker.Allow()
		if err != nil {
			c.inFlight.Add(-1)
			return nil, c.refused(parent, ErrCircuitOpen)
		}
		t.done = done
	}
	t.ctx, t.cancel = context.WithTimeoutCause(parent, c.deadline, t.over)
	t.quiet = context.AfterFunc(t.ctx, func() {
		if t.late() {
			c.reportOverdue(parent)
		}
	})
	return t, nil
}

// enter is exact: what is refused is never counted, not even for a moment, for it would take the place of what could be let in.
func (c *Class) enter() bool {
	for {
		n := c.inFlight.Load()
		if n >= c.max {
			return false
		}
		if c.inFlight.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (c *Class) refused(ctx context.Context, why error) error {
	if v := visitOf(ctx); v != nil {
		v.refused.Store(true)
	}
	return &ClassError{Class: c.name, Err: why}
}

// late tells whether the class's own deadline has ended the context, and not whoever asked for the work.
func (t *turn) late() bool { return context.Cause(t.ctx) == error(t.over) }

// end counts the work out and tells the breaker.
func (t *turn) end(err error) {
	t.quiet()
	switch {
	case t.late():
		err = t.over
	case t.parent.Err() != nil:
		err = ErrNotCounted
	}
	t.cancel()
	t.class.inFlight.Add(-1)
	if t.done != nil {
		t.done(err)
	}
}

// overdueEvery bounds what a slow dependency can write into the log.
const overdueEvery = time.Second

func (c *Class) reportOverdue(ctx context.Context) {
	n := c.overdue.next(overdueEvery)
	if n == 0 {
		return
	}
	route := ""
	if v := visitOf(ctx); v != nil {
		route = v.route()
	}
	c.log.Warn("over the deadline", "class", c.name, "deadline", c.deadline, "route", route, "times", n)
}

// sparse thins out what happens often.
type sparse struct {
	mu    sync.Mutex
	last  time.Time
	since int
}

// next counts one more, and answers how many there were since it last answered, or 0 if that was less than a period ago.
func (s *sparse) next(period time.Duration) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.since++
	if now := time.Now(); now.Sub(s.last) >= period {
		n := s.since
		s.last, s.since = now, 0
		return n
	}
	return 0
}
