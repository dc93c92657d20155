package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"time"
)

const (
	gateEvery   = 250 * time.Millisecond
	gateTimeout = 2 * time.Second // of one question
)

// gate says when a command is ready: when a file exists, when a URL answers, or at once.
type gate struct {
	file, url string
}

// close removes the file of an earlier run, which says nothing of this one.
func (g gate) close() error {
	if g.file == "" {
		return nil
	}
	if err := os.Remove(g.file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// await waits until it is open.
func (g gate) await(ctx context.Context) error {
	if g.file == "" && g.url == "" {
		return ctx.Err()
	}
	asker := &http.Client{Timeout: gateTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
	for !g.isOpen(ctx, asker) {
		if err := pauseUntil(ctx, time.Now().Add(gateEvery)); err != nil {
			return err
		}
	}
	return nil
}

func (g gate) isOpen(ctx context.Context, asker *http.Client) bool {
	if g.file != "" {
		_, err := os.Stat(g.file)
		return err == nil
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, g.url, nil)
	if err != nil {
		return false
	}
	answer, err := asker.Do(request)
	if err != nil {
		return false
	}
	_ = answer.Body.Close()
	return answer.StatusCode/100 == 2
}

// envNotify is where systemd listens, for a unit of Type=notify.
const envNotify = "NOTIFY_SOCKET"

// notify tells systemd. Nobody may listen, and nothing depends on it here.
func notify(state string) {
	path := os.Getenv(envNotify)
	if path == "" {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return
	}
	_, _ = conn.Write([]byte(state))
	_ = conn.Close()
}
