package rediscache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// What a caller can tell apart. Every error of this package wraps one of these, and an error of a Batch wraps ErrBatchOver as well; only a
// cancelled or expired context of the caller has no class, since it says nothing about the server.
var (
	ErrConfig      = errors.New("the target's configuration is not usable")
	ErrInvalid     = errors.New("the request breaks a limit of rediscache")
	ErrBatchOver   = errors.New("the batch is over, keys without an outcome are in an unknown state")
	ErrUnreachable = errors.New("the Redis server cannot be reached")
	ErrNotPrimary  = errors.New("the Redis server is not the primary of these keys")
	ErrSnooze      = errors.New("the Redis server cannot serve now, and will by itself")
	ErrOutOfMemory = errors.New("the Redis server is out of memory")
	ErrUnconfirmed = errors.New("too few servers have confirmed the writes")
	ErrDenied      = errors.New("the Redis server refuses this account")
	ErrUnexpected  = errors.New("the Redis server gave an answer that has no class")
)

// classes are those that an error may have before anybody classified it.
var classes = []error{ErrUnexpected, ErrConfig, ErrInvalid, ErrUnreachable, ErrNotPrimary, ErrSnooze, ErrOutOfMemory, ErrUnconfirmed, ErrDenied, errNoScript}

// Errors that stay inside.
var (
	errNoScript  = errors.New("the Redis server does not know the script")
	errOtherType = errors.New("the key is of another type")
)

// errorClasses goes by the first word of an error reply, which is Redis' own convention for error codes.
var errorClasses = map[string]error{
	"NOSCRIPT":    errNoScript,
	"READONLY":    ErrNotPrimary,
	"MOVED":       ErrNotPrimary,
	"ASK":         ErrNotPrimary,
	"MASTERDOWN":  ErrSnooze,
	"LOADING":     ErrSnooze,
	"CLUSTERDOWN": ErrSnooze,
	"TRYAGAIN":    ErrSnooze,
	"BUSY":        ErrSnooze,
	"MISCONF":     ErrSnooze,
	"NOREPLICAS":  ErrSnooze,
	"OOM":         ErrOutOfMemory,
	"NOAUTH":      ErrDenied,
	"WRONGPASS":   ErrDenied,
	"NOPERM":      ErrDenied,
}

const maxClientsReply = "ERR max number of clients reached"

// classify gives err its sentinel. The caller's context comes first: its end also looks like a network timeout.
func classify(ctx context.Context, err error) error {
	if ended := endOf(ctx, err); ended != nil {
		return fmt.Errorf("%w: %w", ended, err)
	}
	for _, class := range classes {
		if errors.Is(err, class) {
			return err
		}
	}
	var reply redis.Error
	if errors.As(err, &reply) {
		return fmt.Errorf("%w: %w", replyClass(reply.Error()), err)
	}
	if errors.Is(err, redis.ErrPoolTimeout) {
		return fmt.Errorf("%w: %w", ErrSnooze, err)
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}

// endOf looks at the context's deadline too, since the socket's copy of it may fire a moment before the context does.
func endOf(ctx context.Context, err error) error {
	deadline, ok := ctx.Deadline()
	if ok && errors.Is(err, os.ErrDeadlineExceeded) && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	return ctx.Err()
}

func replyClass(reply string) error {
	if strings.HasPrefix(reply, maxClientsReply) {
		return ErrSnooze
	}
	code, _, _ := strings.Cut(reply, " ")
	if class, ok := errorClasses[code]; ok {
		return class
	}
	return scriptErrorClass(reply)
}

// scriptErrorClass looks inside the envelope in which Redis 6 returns an error raised by a command of a script:
// "ERR Error running script (call to f_…): @user_script:9: -OOM command not allowed …".
func scriptErrorClass(reply string) error {
	if !strings.HasPrefix(reply, "ERR Error running script") {
		return ErrUnexpected
	}
	for word := range strings.FieldsSeq(reply) {
		if code, ok := strings.CutPrefix(word, "-"); ok && errorClasses[code] != nil {
			return errorClasses[code]
		}
	}
	return ErrUnexpected
}
