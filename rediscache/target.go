package rediscache

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Target is one Redis server. Its methods may be called from any goroutine.
type Target struct {
	config     Config
	client     *redis.Client
	apply      script
	invalidate script
}

// Open checks the configuration. It connects to nothing: a node starts while its Redis is down. It silences the client library's process-wide
// log, which writes to standard error what the caller gets as an error anyway.
func Open(config Config) (*Target, error) {
	config = config.withDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	logging.Disable()
	return &Target{
		config:     config,
		client:     redis.NewClient(clientOptions(config)),
		apply:      newScript(applySource),
		invalidate: newScript(invalidateSource),
	}, nil
}

// clientOptions switches off what the client does behind the caller's back: retries of commands and of dials, a second pool for
// pipelines, and notifications that may move a connection to another server while it is in use.
func clientOptions(config Config) *redis.Options {
	return &redis.Options{
		Addr:                     config.Addr,
		Username:                 config.Username,
		Password:                 config.Password,
		DB:                       config.DB,
		Protocol:                 2, // RESP3 was not faster, and brings push frames
		MaxRetries:               -1,
		DialerRetries:            1,
		DialTimeout:              dialTimeout,
		ReadTimeout:              readTimeout,
		WriteTimeout:             writeTimeout,
		ContextTimeoutEnabled:    true,
		PoolSize:                 poolConnsMax,
		MaxActiveConns:           poolConnsMax,
		PoolTimeout:              poolTimeout,
		ConnMaxIdleTime:          idleTimeout,
		PipelinePoolSize:         -1,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

// Close ends the pool. Batches still open end with ErrBatchOver.
func (t *Target) Close() error { return t.client.Close() }

// Name is the target's name in mappings, metrics and messages.
func (t *Target) Name() string { return t.config.Name }

// Identity asks the server who it is.
func (t *Target) Identity(ctx context.Context) (Identity, error) {
	pipe := t.client.Pipeline()
	info := pipeInfo(ctx, pipe)
	if _, err := pipe.Exec(ctx); err != nil {
		return Identity{}, t.fail(ctx, "identity", err)
	}
	return info.identity(), nil
}

func (t *Target) fail(ctx context.Context, what string, err error) error {
	return fmt.Errorf("redis target %q: %s: %w", t.config.Name, what, classify(ctx, err))
}
