package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/reconcile"
)

func env(pairs ...string) func(string) string {
	return func(key string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == key {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "node.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const good = `
node_id: n1
data_dir: /var/lib/quiesce
http_addr: 127.0.0.1:8101
peer_addr: 127.0.0.1:9101
drain_delay: 2s
expect:
  - {id: n1, peer_addr: "127.0.0.1:9101"}
  - {id: n2, peer_addr: "127.0.0.1:9102"}
sources: {main: {dsn: "u:p@tcp(127.0.0.1:3306)/shop"}}
targets: {cache: {addr: "127.0.0.1:6379"}}
`

func TestConfig_FlagBeatsEnvironmentBeatsFileBeatsDefault(t *testing.T) {
	t.Parallel()
	c, err := load([]string{"-config", writeFile(t, good), "-min-voters", "3"}, env("QUIESCE_LOG_FORMAT", "json", "QUIESCE_MIN_VOTERS", "4", "QUIESCE_DRAIN_DELAY", "3s"), new(bytes.Buffer))
	if err != nil {
		t.Fatal(err)
	}
	if c.MinVoters != 3 || c.LogFormat != "json" || c.DrainDelay != 3*time.Second || c.QuorumWait != 15*time.Second || c.NodeID != "n1" || len(c.Expect) != 2 {
		t.Errorf("%+v", c)
	}
}

func TestConfig_SaysEveryFaultAtOnce(t *testing.T) {
	t.Parallel()
	_, err := load([]string{"-node-id", "N 1", "-http-addr", "0.0.0.0:80", "-peer-addr", "nowhere", "-log-store", "paper", "-election-timeout", "1ms", "-expect", "n2=127.0.0.1:1"}, env(), new(bytes.Buffer))
	var usage usageError
	if !errors.As(err, &usage) {
		t.Fatalf("not a usage error: %v", err)
	}
	for _, part := range []string{"node_id", "data_dir", "http_addr", "peer_addr", "log_store", "election_timeout", "expect"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("nothing about %s in: %v", part, err)
		}
	}
}

func TestConfig_TargetsOfEveryKind(t *testing.T) {
	t.Parallel()
	const kinds = `
  many: {kind: sentinel, addrs: ["10.0.0.2:26379", "10.0.0.1:26379"], master_name: shop, sentinel_password: x, db: 2}
  large: {kind: cluster, addrs: ["10.0.0.1:6379"], confirm: {replicas: 1, aof: true, timeout: 1s}}
`
	text := strings.Replace(good, `targets: {cache: {addr: "127.0.0.1:6379"}}`, "targets:\n  cache: {addr: \"127.0.0.1:6379\"}"+kinds, 1)
	c, err := load([]string{"-config", writeFile(t, text)}, env(), new(bytes.Buffer))
	if err != nil {
		t.Fatal(err)
	}
	for name, where := range map[string]string{"cache": "127.0.0.1:6379/0", "many": "sentinel://10.0.0.1:26379,10.0.0.2:26379/shop/2", "large": "cluster://10.0.0.1:6379//0"} {
		if got := c.Targets[name].where(); got != where {
			t.Errorf("%s leads to %s, want %s", name, got, where)
		}
	}
	if got := c.Targets["large"].redis("large").Confirm; got.Replicas != 1 || !got.AOF || got.Timeout != time.Second {
		t.Errorf("%+v", got)
	}
	_, err = load([]string{"-config", writeFile(t, strings.Replace(text, "master_name: shop, ", "", 1))}, env(), new(bytes.Buffer))
	var usage usageError
	if !errors.As(err, &usage) || !strings.Contains(err.Error(), `target "many": the sentinels need the name`) {
		t.Errorf("sentinels without a name: %v", err)
	}
}

func TestConfig_LimitsOfPasses(t *testing.T) {
	t.Parallel()
	const limits = "reconcile: {passes_max: 4, threads_running_max: 60, target_latency_max: 5ms, keys_per_second: 9000}\n"
	c, err := load([]string{"-config", writeFile(t, good+limits)}, env(), new(bytes.Buffer))
	if err != nil {
		t.Fatal(err)
	}
	want := reconcile.Default()
	want.PassesMax, want.ThreadsRunningMax, want.TargetLatencyMax, want.KeysPerSecond = 4, 60, 5*time.Millisecond, 9_000
	if got := c.reconcile(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	_, err = load([]string{"-config", writeFile(t, good+"reconcile: {passes_max: 99}\n")}, env(), new(bytes.Buffer))
	var usage usageError
	if !errors.As(err, &usage) || !strings.Contains(err.Error(), "reconcile: 99 passes at once") {
		t.Errorf("too many passes: %v", err)
	}
}

func TestConfig_RefusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"key":      {"-config", writeFile(t, good+"colour: red\n")},
		"flag":     {"-colour", "red"},
		"argument": {"-dev", "red"},
		"file":     {"-config", "/does/not/exist.yaml"},
		"duration": {"-config", writeFile(t, good), "-drain-delay", "soon"},
		"peers":    {"-config", writeFile(t, good), "-expect", "n1"},
		"dev":      {"-dev", "-data-dir", "/tmp/x"},
		"loopback": {"-dev", "-http-addr", "10.1.2.3:7400"},
		"mismatch": {"-config", writeFile(t, good), "-peer-addr", "127.0.0.1:9999"},
		"listen":   {"-config", writeFile(t, good), "-peer-listen", "nowhere"},
		"exposed":  {"-dev", "-http-listen", "0.0.0.0:7400"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			if code := run(args, env(), &out, &out); code != exitUsage {
				t.Errorf("exit code %d: %s", code, &out)
			}
			if !strings.Contains(out.String(), "quiesce-node: ") {
				t.Errorf("no sentence: %s", &out)
			}
		})
	}
}

func TestConfig_DevNeedsNothing(t *testing.T) {
	t.Parallel()
	c, err := load([]string{"-dev"}, env(), new(bytes.Buffer))
	if err != nil || c.DataDir != "" || len(c.Expect) != 1 {
		t.Errorf("%+v %v", c, err)
	}
}
