package main

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/quiescehq/quiesce/client"
	"github.com/quiescehq/quiesce/client/redisquiesce"
)

const (
	requestTimeout  = 5 * time.Second
	startTimeout    = 20 * time.Second
	declareWithin   = 3 * time.Second
	redisTimeout    = 500 * time.Millisecond
	connectionsMax  = 20
	exitUnavailable = 69 // sysexits: a service that this one needs is missing
	exitUsage       = 64
)

func main() {
	os.Exit(run(slog.New(slog.NewJSONHandler(os.Stderr, nil)), os.Getenv))
}

func run(log *slog.Logger, getenv func(string) string) int {
	cfg, err := readConfig(getenv)
	if err != nil {
		log.Error("cannot start", "error", err)
		return exitUsage
	}
	app, err := client.Join("orders", client.FromEnv(), client.Logger(log), client.Address(cfg.httpAddr))
	if err != nil {
		log.Error("cannot join", "error", err)
		return exitUsage
	}
	defer app.Close()
	db, err := openTable(app, cfg)
	if err != nil {
		log.Error("cannot start", "error", err)
		return exitUnavailable
	}
	defer db.Close()
	cache := redis.NewClient(&redis.Options{Addr: cfg.redisAddr, DialTimeout: redisTimeout, ReadTimeout: redisTimeout, WriteTimeout: redisTimeout})
	defer cache.Close()
	if err := redisquiesce.Attach(app, cache); err != nil {
		log.Error("cannot start", "error", err)
		return exitUsage
	}
	keys, err := redisquiesce.NewCache(cache)
	if err != nil {
		log.Error("cannot start", "error", err)
		return exitUsage
	}
	s := &service{app: app, orders: table{db}, cache: cache, prefix: cfg.keyPrefix, sync: app.Sync(keys), log: log}
	return s.serve(cfg)
}

// serve ends when everything it started has.
func (s *service) serve(cfg config) int {
	var background sync.WaitGroup
	defer background.Wait()
	asked := make(chan struct{})
	background.Go(func() { s.declare(s.app.Context(), cfg, sync.OnceFunc(func() { close(asked) })) })
	<-asked
	return s.app.Run(&http.Server{Addr: cfg.httpAddr, Handler: s.routes(), ReadHeaderTimeout: requestTimeout})
}

// declare tells the coordinator how a row becomes a key, and tries until it is heard. The service waits for the first try only: it serves without the coordinator too, and
// events wait until there is one. Those that it hears before it has ever heard of the mapping it refuses.
func (s *service) declare(ctx context.Context, cfg config, asked func()) {
	defer asked()
	for ctx.Err() == nil {
		trying, cancel := context.WithTimeout(ctx, declareWithin)
		_, err := s.app.Client().DeclareMapping(trying, mappingName, cfg.mapping())
		cancel()
		asked()
		if err == nil {
			return
		}
		s.log.Warn("the mapping is not declared", "error", err)
		pause(ctx, time.Second)
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
