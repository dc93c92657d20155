package alert

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"
)

// Kind is what a notice is about.
type Kind string

const (
	DeadLetter Kind = "dead_letter" // events of the mapping are not tried again by themselves
	Lag        Kind = "lag"         // its oldest pending event waits for longer than Hook.Lag
	Doubt      Kind = "doubt"       // a store was replaced or restarted: acknowledged writes may be lost
	Divergence Kind = "divergence"  // its last pass found differences that outlasted their confirmation, or keys without a row
	Held       Kind = "held"        // a pass asks for an approval
)

// Kinds lists them all.
var Kinds = []Kind{DeadLetter, Lag, Doubt, Divergence, Held}

// HooksMax bounds the hooks of a node.
const HooksMax = 16

const (
	lagDefault    = time.Minute
	secretBytes   = 256
	urlBytesMax   = 2_048
	noticeMax     = 16 << 10
	answerDefault = 5 * time.Second
)

// ErrConfig means that a configuration cannot be used.
var ErrConfig = errors.New("alert: configuration not usable")

var errUnheard = errors.New("no answer")

// Hook is one receiver.
type Hook struct {
	URL    string        // http or https
	Kinds  []Kind        // empty: all
	Lag    time.Duration // of Kind Lag; 0: a minute
	Secret string        // signs the body: Quiesce-Signature is sha256= and the HMAC in hex; empty: no signature
}

func (h Hook) wants(k Kind) bool { return len(h.Kinds) == 0 || slices.Contains(h.Kinds, k) }

func (h Hook) lag() time.Duration {
	if h.Lag == 0 {
		return lagDefault
	}
	return h.Lag
}

// String leaves out what an address may hold of secrets.
func (h Hook) String() string {
	u, err := url.Parse(h.URL)
	if err != nil {
		return "a hook"
	}
	return u.Scheme + "://" + u.Host
}

// Validate refuses what cannot work. The error wraps [ErrConfig].
func (h Hook) Validate() error {
	u, err := url.Parse(h.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || len(h.URL) > urlBytesMax:
		return fmt.Errorf("%w: a hook needs an http or https address", ErrConfig)
	case h.Lag < 0 || h.Lag > 0 && h.Lag < time.Second:
		return fmt.Errorf("%w: lag %v, at least a second", ErrConfig, h.Lag)
	case len(h.Secret) > secretBytes:
		return fmt.Errorf("%w: the secret has more than %d bytes", ErrConfig, secretBytes)
	}
	for _, k := range h.Kinds {
		if !slices.Contains(Kinds, k) {
			return fmt.Errorf("%w: kind %q, one of %v", ErrConfig, k, Kinds)
		}
	}
	return nil
}

// Config holds the hooks and the rhythm. See [Default].
type Config struct {
	Hooks         []Hook
	Every         time.Duration // between two looks at the state
	Repeat        time.Duration // between two notices of a condition that grows
	AnswerTimeout time.Duration // one request
	RetryMin      time.Duration // after a request that failed; it doubles
	RetryMax      time.Duration
}

// Default gives the rhythm for production.
func Default(hooks ...Hook) Config {
	return Config{Hooks: hooks, Every: time.Second, Repeat: 5 * time.Minute, AnswerTimeout: answerDefault, RetryMin: time.Second, RetryMax: time.Minute}
}

// Validate reports every fault at once, each wrapping [ErrConfig].
func (c Config) Validate() error {
	var faults []error
	if len(c.Hooks) > HooksMax {
		faults = append(faults, fmt.Errorf("%w: %d hooks, at most %d", ErrConfig, len(c.Hooks), HooksMax))
	}
	for i, h := range c.Hooks {
		if err := h.Validate(); err != nil {
			faults = append(faults, fmt.Errorf("hook %d: %w", i+1, err))
		}
	}
	if c.Every <= 0 || c.Repeat <= 0 || c.AnswerTimeout <= 0 || c.RetryMin <= 0 || c.RetryMax < c.RetryMin {
		faults = append(faults, fmt.Errorf("%w: times must be positive", ErrConfig))
	}
	return errors.Join(faults...)
}
