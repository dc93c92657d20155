package main

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/quiescehq/quiesce/client"
)

const (
	exitNoStart   = 3
	workTakes     = 2 * time.Millisecond
	headerTimeout = 5 * time.Second
	listenAddr    = "127.0.0.1:0"
)

func main() {
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	if os.Getenv("APP_ROLE") == "naive" {
		os.Exit(runNaive(log))
	}
	os.Exit(run(log))
}

// run is the instance.
func run(log *slog.Logger) int {
	log.Info("starting")
	app, err := client.Join(os.Getenv("APP_SERVICE"), client.FromEnv(), client.Logger(log))
	if err != nil {
		log.Error("cannot join", "error", err)
		return exitNoStart
	}
	if err := burden(app, log); err != nil {
		log.Error("cannot start", "error", err)
		app.Close()
		return exitNoStart
	}
	return app.Run(&http.Server{Addr: listenAddr, Handler: app.Handler(routes(app, log)), ReadHeaderTimeout: headerTimeout})
}

// burden gives the instance what a test wants it to have when it stops.
func burden(app *client.App, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, name := range list("APP_LOCKS") {
		if _, err := app.Lock(ctx, name); err != nil {
			return err
		}
	}
	if row := list("APP_LEFTOVER"); len(row) == 2 {
		if err := app.Leftover(row[0], row[1]); err != nil {
			return err
		}
	}
	return hang(app, client.Phase(os.Getenv("APP_HANG")), log)
}

func list(variable string) []string {
	text := os.Getenv(variable)
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

// hang keeps a phase busy for as long as it may last.
func hang(app *client.App, phase client.Phase, log *slog.Logger) error {
	wait := func(ctx context.Context) error {
		log.Info("hanging", "phase", phase)
		<-ctx.Done()
		return nil
	}
	switch phase {
	case "", client.PhaseAnnounce, client.PhaseLameDuck, client.PhaseReject: // the budget, the clock or a request does it
		return nil
	case client.PhaseConsumers:
		return app.Go("hang", func(ctx context.Context) error {
			<-ctx.Done()
			select {} // it does not heed its context
		})
	}
	return app.On(phase, "hang", wait)
}

func routes(app *client.App, log *slog.Logger) *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("/readyz", app.Readiness())
	mux.HandleFunc("POST /orders", answer)
	s := &streams{app: app, log: log}
	mux.HandleFunc("GET /events", s.events)
	mux.HandleFunc("GET /socket", s.socket)
	mux.HandleFunc("GET /poll", s.poll)
	mux.HandleFunc("POST /body", s.body)
	mux.HandleFunc("POST /hang", s.hang)
	mux.HandleFunc("POST /late", s.late)
	return mux
}

// answer does some work and answers as examples/orders does.
func answer(w http.ResponseWriter, r *http.Request) {
	timer := time.NewTimer(workTakes)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
	}
	w.WriteHeader(http.StatusCreated)
	_, _ = w.Write([]byte(`{"id":1}`)) // a client that has gone
}
