package rediscache

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestOpen_RefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	good := Config{Name: "cache", Addr: "127.0.0.1:1"}
	for name, change := range map[string]func(*Config){
		"no name":                func(c *Config) { c.Name = "" },
		"no address":             func(c *Config) { c.Addr = "" },
		"database":               func(c *Config) { c.DB = -1 },
		"negative deadline":      func(c *Config) { c.Deadline = -time.Second },
		"deadline below 1 ms":    func(c *Config) { c.Deadline = time.Microsecond },
		"guard dies too early":   func(c *Config) { c.GuardTTL = 4*defaultDeadline - 1 },
		"kind":                   func(c *Config) { c.Kind = "mirror" },
		"two kinds of address":   func(c *Config) { c.Addrs = []string{"127.0.0.1:2"} },
		"name without sentinels": func(c *Config) { c.MasterName = "shop" },
		"sentinels with address": func(c *Config) { c.Kind, c.Addrs, c.MasterName = Sentinel, []string{"127.0.0.1:2"}, "shop" },
		"sentinels of nobody":    func(c *Config) { c.Kind, c.Addr, c.Addrs = Sentinel, "", []string{"127.0.0.1:2"} },
		"no sentinel":            func(c *Config) { c.Kind, c.Addr, c.MasterName = Sentinel, "", "shop" },
		"cluster with database":  func(c *Config) { c.Kind, c.Addr, c.Addrs, c.DB = Cluster, "", []string{"127.0.0.1:2"}, 1 },
		"too many seeds":         func(c *Config) { c.Kind, c.Addr, c.Addrs = Cluster, "", make([]string, addrsMax+1) },
		"negative replicas":      func(c *Config) { c.Confirm.Replicas = -1 },
		"endless confirmation":   func(c *Config) { c.Confirm.Timeout = time.Minute },
		"deadline for the guard": func(c *Config) { c.Deadline = defaultGuardTTL/4 + 1 },
	} {
		config := good
		change(&config)
		if target, err := Open(config); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v, %v", name, target, err)
		}
	}
	for _, config := range []Config{good, {Name: "c", Addr: "127.0.0.1:1", Deadline: time.Second, GuardTTL: 4 * time.Second},
		{Name: "c", Kind: Sentinel, Addrs: []string{"127.0.0.1:1"}, MasterName: "shop", DB: 3},
		{Name: "c", Kind: Cluster, Addrs: []string{"127.0.0.1:1", "127.0.0.1:2"}, Confirm: Confirm{Replicas: 1, AOF: true}}} {
		target, err := Open(config)
		if err != nil {
			t.Fatal(err)
		}
		if err := target.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestConfig_NeverPrintsThePassword(t *testing.T) {
	t.Parallel()
	for _, config := range []Config{{Addr: "localhost:6379"}, {Kind: Sentinel, Addrs: []string{"localhost:6379"}}, {Kind: Cluster, Addrs: []string{"localhost:6379"}}} {
		config.Name, config.Username, config.Password, config.SentinelPassword = "cache", "u", "s3cret", "s3cret"
		var logged strings.Builder
		slog.New(slog.NewJSONHandler(&logged, nil)).Info("target", "config", config)
		for _, text := range []string{fmt.Sprint(config), fmt.Sprintf("%+v %#v", config, config), logged.String()} {
			if strings.Contains(text, "s3cret") || !strings.Contains(text, "localhost:6379") {
				t.Errorf("printed as %s", text)
			}
		}
	}
}

// replyError is an error reply as the client hands it on.
type replyError string

func (e replyError) Error() string { return string(e) }
func (e replyError) RedisError()   {}

var _ redis.Error = replyError("")

func TestClassify_EveryReplyHasAClass(t *testing.T) {
	t.Parallel()
	const envelope = "ERR Error running script (call to f_2fa): @user_script:9: @user_script: 9: "
	for reply, want := range map[string]error{
		"READONLY You can't write against a read only replica. script: 2fa": ErrNotPrimary,
		"MOVED 3999 127.0.0.1:6381":                                         ErrNotPrimary,
		"ASK 3999 127.0.0.1:6381":                                           ErrNotPrimary,
		"MASTERDOWN Link with MASTER is down":                               ErrSnooze,
		"LOADING Redis is loading the dataset in memory":                    ErrSnooze,
		"CLUSTERDOWN The cluster is down":                                   ErrSnooze,
		"TRYAGAIN Multiple keys request during rehashing of slot":           ErrSnooze,
		"BUSY Redis is busy running a script":                               ErrSnooze,
		"MISCONF Redis is configured to save RDB snapshots":                 ErrSnooze,
		"NOREPLICAS Not enough good replicas to write.":                     ErrSnooze,
		"ERR max number of clients reached":                                 ErrSnooze,
		"OOM command not allowed when used memory > 'maxmemory'.":           ErrOutOfMemory,
		"NOAUTH Authentication required.":                                   ErrDenied,
		"WRONGPASS invalid username-password pair":                          ErrDenied,
		"NOPERM this user has no permissions":                               ErrDenied,
		"ERR unknown command":                                               ErrUnexpected,
		"":                                                                  ErrUnexpected,
		envelope + "-OOM command not allowed":                               ErrOutOfMemory,
		envelope + "-READONLY You can't write":                              ErrNotPrimary,
		envelope + "-MISCONF Errors writing":                                ErrSnooze,
		envelope + "something else -x":                                      ErrUnexpected,
	} {
		if err := classify(t.Context(), replyError(reply)); !errors.Is(err, want) {
			t.Errorf("%q is %v, want %v", reply, err, want)
		}
	}
}
