package main

import (
	"context"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
)

// passedOn are the signals for the command. Its terminal sends it Ctrl-C and its like by itself: it is in the foreground then.
var passedOn = []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
	syscall.SIGALRM, syscall.SIGWINCH, syscall.SIGCONT}

const signalsHeld = 32

// signals are those that wait to be passed on.
type signals struct {
	heard   chan os.Signal
	stopped atomic.Int32 // the signal that ended the waiting
}

// catch begins to hear signals of a list, but for those that are ignored, as SIGHUP is under nohup: they stay so, for the command too.
func catch(list []os.Signal) *signals {
	s := &signals{heard: make(chan os.Signal, signalsHeld)}
	for _, sig := range list {
		if !signal.Ignored(sig) {
			signal.Notify(s.heard, sig)
		}
	}
	return s
}

func (s *signals) stop() { signal.Stop(s.heard) }

// interrupted gives a context that ends with the first signal that asks a program to end; the others mean nothing before there is a
// command. Stop it before anybody else reads the signals.
func (s *signals) interrupted(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(parent)
	joined := make(chan struct{})
	go func() { // joined by the function that is returned
		defer close(joined)
		for {
			select {
			case <-ctx.Done():
				return
			case sig := <-s.heard:
				switch sig {
				case syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT:
					s.stopped.Store(int32(sig.(syscall.Signal)))
					cancel()
				}
			}
		}
	}()
	return ctx, func() { cancel(); <-joined }
}

// first is the signal that ended the waiting, 0 if none did.
func (s *signals) first() syscall.Signal { return syscall.Signal(s.stopped.Load()) }
