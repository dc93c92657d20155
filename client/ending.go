package client

import "context"

// ending is something that ends once, for a reason.
type ending struct {
	ctx context.Context
	end context.CancelCauseFunc
}

func newEnding() *ending {
	e := &ending{}
	e.ctx, e.end = context.WithCancelCause(context.Background())
	return e
}

func (e *ending) over() bool { return e.ctx.Err() != nil }

// renewed gives a new one if this one is over.
func (e *ending) renewed() *ending {
	if !e.over() {
		return e
	}
	return newEnding()
}
