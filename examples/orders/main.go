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
	return serve(app, db, cache, cfg, log)
}

// serve ends when everything it started has.
func serve(app *client.App, db *client.DB, cache *redis.Client, cfg config, log *slog.Logger) int {
	s := &service{app: app, orders: table{db}, cache: cache, prefix: cfg.keyPrefix, log: log}
	s.dirty = newDirtyKeys(s.publish)
	app.Flush("dirty keys", s.dirty.flush)
	app.Counter("dirty_keys", s.dirty.count)
	var background sync.WaitGroup
	defer background.Wait()
	background.Go(func() { s.declare(app.Context(), cfg) })
	background.Go(func() { s.dirty.run(app.Context()) })
	return app.Run(&http.Server{Addr: cfg.httpAddr, Handler: s.routes(), ReadHeaderTimeout: requestTimeout})
}

// declare tells the coordinator how a row becomes a key, and tries until it is heard: until then events are refused and their keys dirty.
func (s *service) declare(ctx context.Context, cfg config) {
	for ctx.Err() == nil {
		_, err := s.app.Client().DeclareMapping(ctx, mappingName, cfg.mapping())
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
