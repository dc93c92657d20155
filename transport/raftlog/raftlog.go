package raftlog

import (
	"context"
	"io"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// New returns an hclog.Logger whose lines go to logger, with their key-value pairs as attributes. A sink on a
// silent root is used because the hclog.Logger interface has some thirty methods and a sink has one.
func New(logger *slog.Logger) hclog.Logger {
	root := hclog.NewInterceptLogger(&hclog.LoggerOptions{Output: io.Discard, Level: hclog.Off})
	root.RegisterSink(sink{logger})
	return root
}

type sink struct{ logger *slog.Logger }

// Accept implements hclog.SinkAdapter.
func (s sink) Accept(name string, level hclog.Level, msg string, args ...any) {
	lvl := levelOf(level)
	if !s.logger.Enabled(context.Background(), lvl) {
		return
	}
	if name != "" {
		args = append([]any{"part", name}, args...)
	}
	s.logger.Log(context.Background(), lvl, msg, args...)
}

// levelOf moves hclog's levels down by one step below warning: raft calls "info" what is detail to our operators.
func levelOf(level hclog.Level) slog.Level {
	switch {
	case level >= hclog.Error:
		return slog.LevelError
	case level >= hclog.Warn:
		return slog.LevelWarn
	default:
		return slog.LevelDebug
	}
}
