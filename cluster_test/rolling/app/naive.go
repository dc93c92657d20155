package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
)

// runNaive serves until the first signal, and then does what the manual of net/http says.
func runNaive(log *slog.Logger) int {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /orders", answer)
	mux.HandleFunc("/readyz", func(http.ResponseWriter, *http.Request) {})
	listener, err := net.Listen("tcp", listenAddr)
	if err != nil {
		log.Error("cannot listen", "error", err)
		return exitNoStart
	}
	signalled, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	server := &http.Server{Handler: mux, ReadHeaderTimeout: headerTimeout}
	stopped := make(chan struct{})
	context.AfterFunc(signalled, func() {
		defer close(stopped)
		_ = server.Shutdown(context.Background()) // returns when all is closed
	})
	log.Info("listening", "addr", listener.Addr().String())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		log.Error("cannot serve", "error", err)
		return 1
	}
	<-stopped
	return 0
}
