package harness

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

const pollEvery = 20 * time.Millisecond

// Eventually asks until there is no error. After too long it ends the test with the last one.
func Eventually(t testing.TB, within time.Duration, what string, ask func() error) {
	t.Helper()
	limit := time.NewTimer(within)
	defer limit.Stop()
	every := time.NewTicker(pollEvery)
	defer every.Stop()
	for {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-every.C:
		case <-limit.C:
			t.Fatalf("waited %s for %s: %v", within, what, err)
		}
	}
}

const (
	portMin   = 12_000
	portMax   = 30_000
	portTries = 200
)

// given are the ports that this test binary has handed out.
var given struct {
	sync.Mutex
	ports map[int]bool
}

// FreeAddr is an address on loopback that nobody listens on. It never gives the same one twice.
func FreeAddr(t testing.TB) string {
	t.Helper()
	given.Lock()
	defer given.Unlock()
	if given.ports == nil {
		given.ports = map[int]bool{}
	}
	for range portTries {
		port := portMin + rand.IntN(portMax-portMin)
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		if given.ports[port] {
			continue
		}
		listener, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		_ = listener.Close()
		given.ports[port] = true
		return addr
	}
	t.Fatalf("no free port in %d tries", portTries)
	return ""
}
