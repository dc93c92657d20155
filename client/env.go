package client

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/quiescehq/quiesce/api"
)

// Environment variables that FromEnv reads. Durations are such as 25s.
const (
	EnvAddrs    = "QUIESCE_ADDRS"     // addresses of nodes, separated by commas
	EnvInstance = "QUIESCE_INSTANCE"  // name of the instance; the host's name and the process id by default
	EnvGrace    = "QUIESCE_GRACE"     // time from SIGTERM to the platform's SIGKILL
	EnvLameDuck = "QUIESCE_LAME_DUCK" // time to serve on after the instance stopped being ready
	EnvLeaseTTL = "QUIESCE_LEASE_TTL" // silence after which the coordinator counts the instance as lost
	EnvPlatform = "QUIESCE_PLATFORM"  // kubernetes or none; by default kubernetes where KUBERNETES_SERVICE_HOST is set
	EnvIntent   = "QUIESCE_INTENT"    // restart or remove
)

// envKubernetes is set by Kubernetes in every container.
const envKubernetes = "KUBERNETES_SERVICE_HOST"

// platformNone is how an environment says that there is no platform with ways of its own.
const platformNone = "none"

// FromEnv reads the variables above. What is not set stays as it was; that the process runs under Kubernetes is guessed only where neither
// QUIESCE_PLATFORM nor [Platform] says what it runs under.
func FromEnv() Option {
	return func(o *options) error {
		if addrs := os.Getenv(EnvAddrs); addrs != "" {
			o.config.Addrs = strings.Split(addrs, ",")
		}
		if name := os.Getenv(EnvInstance); name != "" {
			o.name = name
		}
		for _, v := range []struct {
			name string
			to   *time.Duration
		}{{EnvGrace, &o.grace}, {EnvLameDuck, &o.lameDuck}, {EnvLeaseTTL, &o.leaseTTL}} {
			if err := durationFromEnv(v.name, v.to); err != nil {
				return err
			}
		}
		if intent := Intent(os.Getenv(EnvIntent)); intent != "" {
			if err := intent.check(); err != nil {
				return fmt.Errorf("%s: %w", EnvIntent, err)
			}
			o.intent = intent
		}
		return o.platformFromEnv()
	}
}

func durationFromEnv(name string, to *time.Duration) error {
	text := os.Getenv(name)
	if text == "" {
		return nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrConfig, name, err)
	}
	if d <= 0 {
		return fmt.Errorf("%w: %s: %v is not above 0", ErrConfig, name, d)
	}
	*to = d
	return nil
}

func (o *options) platformFromEnv() error {
	switch platform := os.Getenv(EnvPlatform); platform {
	case api.PlatformKubernetes:
		o.platform, o.platformSaid = platform, true
	case platformNone:
		o.platform, o.platformSaid = "", true
	case "":
		if !o.platformSaid && os.Getenv(envKubernetes) != "" {
			o.platform = api.PlatformKubernetes
		}
	default:
		return fmt.Errorf("%w: %s: %q is neither %s nor %s", ErrConfig, EnvPlatform, platform, api.PlatformKubernetes, platformNone)
	}
	return nil
}
