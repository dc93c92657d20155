package client

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// signals notes when each signal came: the platform counts from then, however late Run is called.
type signals struct {
	raw   <-chan os.Signal
	own   chan os.Signal // raw, if it is the process's; else nil
	heard chan *StopError
}

func newSignals(from <-chan os.Signal) *signals {
	s := &signals{raw: from, heard: make(chan *StopError, 4)}
	if from == nil {
		s.own = make(chan os.Signal, 4)
		s.raw = s.own
		// Not NotifyContext: it would swallow the second signal.
		signal.Notify(s.own, syscall.SIGTERM, syscall.SIGINT)
	}
	return s
}

// run passes signals on until ctx ends. Those that nobody wants any more, after the second, are dropped.
func (s *signals) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case sig, more := <-s.raw:
			if !more {
				return
			}
			select {
			case s.heard <- &StopError{Reason: "signal " + sig.String(), Signal: sig, at: time.Now()}:
			default:
			}
		}
	}
}

func (s *signals) stop() {
	if s.own != nil {
		signal.Stop(s.own)
	}
}
