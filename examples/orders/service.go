package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/redis/go-redis/v9"

	"github.com/quiescehq/quiesce/client"
	"github.com/quiescehq/quiesce/client/ginquiesce"
)

const (
	readWithin   = time.Second // not client.ClassLocal's: an example runs on machines that do much else
	lockWait     = 2 * time.Second
	afterCommit  = 2 * time.Second // for what a commit obliges to, whatever becomes of the request
	waitingMax   = 10_000          // commits whose events wait for the coordinator: beyond it writers are asked to stay away
	bodyBytesMax = 16 << 10
)

// service is the application: its routes and what they use.
type service struct {
	app    *client.App
	orders table
	cache  *redis.Client
	prefix string
	sync   *client.Sync
	log    *slog.Logger
}

func (s *service) routes() http.Handler {
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	r.Use(ginquiesce.Gate(s.app), gin.Recovery(), bounded)
	r.GET("/healthz", ginquiesce.Liveness(s.app))
	r.GET("/readyz", ginquiesce.Readiness(s.app))
	reading := ginquiesce.Class(s.app.Class("read", readWithin))
	writing := ginquiesce.Class(s.app.Class("write", requestTimeout))
	r.POST("/orders", writing, s.create)
	r.PUT("/orders/:id", writing, s.update)
	r.GET("/orders/:id", reading, s.read)
	return r
}

// bounded limits the body of a request. Its time is its class's.
func bounded(c *gin.Context) {
	c.Request.Body = http.MaxBytesReader(c.Writer, c.Request.Body, bodyBytesMax)
	c.Next()
}

type creation struct {
	RequestID string `json:"request_id" binding:"required,max=64,printascii"`
	Customer  string `json:"customer" binding:"required,max=64"`
	Amount    string `json:"amount" binding:"required,max=13"`
	Note      string `json:"note" binding:"max=500"`
}

func (s *service) create(c *gin.Context) {
	var body creation
	if !s.accepts(c, &body) {
		return
	}
	if !isAmount(body.Amount) {
		c.JSON(http.StatusBadRequest, gin.H{"error": "an amount is text such as 12.50"})
		return
	}
	id, repeated, err := s.orders.create(c.Request.Context(), body.RequestID, order{Customer: body.Customer, Amount: body.Amount, Note: body.Note})
	if err != nil {
		s.fail(c, err)
		return
	}
	s.changed(c.Request.Context(), id)
	status := http.StatusCreated
	if repeated {
		status = http.StatusOK
	}
	c.JSON(status, gin.H{"id": id})
}

// isAmount tells whether text fits DECIMAL(12,2) as it stands: MySQL would round, and the client would read another amount than it wrote.
func isAmount(text string) bool {
	whole, cents, _ := strings.Cut(text, ".")
	digits := func(s string) bool { return strings.Trim(s, "0123456789") == "" }
	return whole != "" && len(whole) <= 10 && len(cents) <= 2 && digits(whole) && digits(cents)
}

type change struct {
	RequestID string `json:"request_id" binding:"required,max=64,printascii"`
	Status    string `json:"status" binding:"required,max=16"`
	Note      string `json:"note" binding:"max=500"`
}

// update holds the order's lock from before the transaction until after it.
func (s *service) update(c *gin.Context) {
	id, ok := orderID(c)
	var body change
	if !ok || !s.accepts(c, &body) {
		return
	}
	ctx := c.Request.Context()
	lock, err := s.app.Lock(ctx, "order/"+strconv.FormatInt(id, 10), client.WaitAtMost(lockWait))
	if err != nil {
		s.fail(c, err)
		return
	}
	defer s.unlock(ctx, lock)
	if _, err = s.orders.update(ctx, body.RequestID, id, lock.Token(), body.Status, body.Note); err != nil {
		s.fail(c, err)
		return
	}
	s.changed(ctx, id)
	c.JSON(http.StatusOK, gin.H{"id": id, "token": lock.Token()})
}

func (s *service) unlock(ctx context.Context, lock *client.Lock) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterCommit)
	defer cancel()
	if err := lock.Unlock(ctx); err != nil {
		s.log.Warn("a lock was not given back; it goes with the lease", "lock", lock.Name(), "error", err)
	}
}

// read asks the cache and then the table. It does not fill the cache: only the coordinator knows which of two values is the newer one.
func (s *service) read(c *gin.Context) {
	id, ok := orderID(c)
	if !ok {
		return
	}
	ctx := c.Request.Context()
	cached, err := s.cache.Get(ctx, s.key(id)).Bytes()
	if err == nil {
		c.Header("X-Cache", "hit")
		c.Data(http.StatusOK, gin.MIMEJSON, cached)
		return
	}
	if !errors.Is(err, redis.Nil) {
		s.log.Warn("the cache does not answer", "error", err)
	}
	o, err := s.orders.read(ctx, id)
	if err != nil {
		s.fail(c, err)
		return
	}
	c.Header("X-Cache", "miss")
	c.JSON(http.StatusOK, o)
}

// changed does what every commit obliges to: the key leaves the cache, and the coordinator hears of the row, now or later. The request may be over by now, its commit is not undone by that.
func (s *service) changed(ctx context.Context, id int64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterCommit)
	defer cancel()
	_, err := s.sync.Enqueue(ctx, client.Change{Mapping: mappingName, PK: id, CacheKeys: []string{s.key(id)}})
	if err != nil && !errors.Is(err, client.ErrKept) {
		s.log.Warn("the coordinator will not hear of a change; a pass finds it", "id", id, "error", err)
	}
}

func (s *service) key(id int64) string { return s.prefix + strconv.FormatInt(id, 10) }

// accepts reads the body of a write, unless too many earlier ones wait for their events.
func (s *service) accepts(c *gin.Context, body any) bool {
	if s.sync.Waiting() >= waitingMax {
		c.Header("Retry-After", "1")
		c.JSON(http.StatusServiceUnavailable, gin.H{"error": "too many changes wait for the coordinator"})
		return false
	}
	if err := c.ShouldBindJSON(body); err != nil {
		c.JSON(http.StatusBadRequest, gin.H{"error": err.Error()})
		return false
	}
	return true
}

func orderID(c *gin.Context) (int64, bool) {
	id, err := strconv.ParseInt(c.Param("id"), 10, 64)
	if err != nil || id <= 0 {
		c.JSON(http.StatusBadRequest, gin.H{"error": "the id of an order is a positive integer"})
		return 0, false
	}
	return id, true
}

// fail answers with a sentence; the cause goes to the log.
func (s *service) fail(c *gin.Context, err error) {
	status, text := http.StatusInternalServerError, "the order could not be saved or read"
	switch {
	case errors.Is(err, errNotFound):
		status, text = http.StatusNotFound, "no such order"
	case errors.Is(err, client.ErrLockWaitTimeout), errors.Is(err, client.ErrLockHeld), errors.Is(err, errFenced):
		status, text = http.StatusConflict, "somebody else is changing this order"
	case errors.Is(err, client.ErrUnavailable), errors.Is(err, client.ErrOutcomeUnknown), errors.Is(err, client.ErrNotRegistered),
		errors.Is(err, client.ErrStopping), errors.Is(err, client.ErrCutOff), errors.Is(err, client.ErrSessionGone), errors.Is(err, client.ErrLeaseLapsed):
		status, text = http.StatusServiceUnavailable, "orders cannot be changed at the moment"
	}
	if status >= http.StatusInternalServerError {
		s.log.Warn("request failed", "path", c.FullPath(), "status", status, "error", err)
		c.Header("Retry-After", "1")
	}
	c.JSON(status, gin.H{"error": text})
}
