package rediscache

import (
	"errors"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/cluster_test/services"
)

func TestLatency_IsTheTimeOfARoundTripOrAnError(t *testing.T) {
	t.Parallel()
	server := services.OwnRedis(t)
	target, err := Open(Config{Name: "cache", Addr: server.Addr})
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	idle, err := target.Latency(t.Context())
	if err != nil || idle <= 0 || idle > 10*time.Second {
		t.Fatalf("idle: %v, %v", idle, err)
	}
	server.Kill()
	if _, err := target.Latency(t.Context()); !errors.Is(err, ErrUnreachable) {
		t.Errorf("a server that is gone: %v", err)
	}
	server.Start()
}
