package services

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"github.com/quiescehq/quiesce/cluster_test/harness"
)

const (
	redisWaitTimeout = 30 * time.Second
	redisPoll        = 10 * time.Millisecond

	// clusterNodeTimeout is in milliseconds. Nodes tell each other news within half of it.
	clusterNodeTimeout = "5000"
)

// RedisServer is one Redis process that one test owns. Its address and folder stay the same across stops and starts. Its methods end the test when
// they fail, so they belong on the test's own goroutine.
type RedisServer struct {
	Addr   string
	Dir    string        // also of its dump and append-only file
	Client *redis.Client // for looking and for harm; without retries

	t       testing.TB
	command []string
	process *exec.Cmd
}

// OwnRedis starts a Redis for t alone, with options of redis.conf on its command line, and ends it in t's cleanup. It keeps nothing on disk
// unless an option says so.
func OwnRedis(t testing.TB, options ...string) *RedisServer {
	t.Helper()
	s := newRedis(t, options)
	s.launch()
	s.await()
	return s
}

// newRedis prepares a server: the place and the command line.
func newRedis(t testing.TB, options []string) *RedisServer {
	t.Helper()
	dir, err := os.MkdirTemp("", "quiesce-redis-")
	if err != nil {
		t.Fatalf("folder for the test's Redis: %v", err)
	}
	logging.Disable() // of the client: it tells of every dial that comes too early
	addr := harness.FreeAddr(t)
	s := &RedisServer{Addr: addr, Dir: dir, t: t, Client: redis.NewClient(&redis.Options{Addr: addr, DisableIdentity: true, Protocol: 2, DialerRetries: 1, MaxRetries: -1,
		ReadTimeout: redisWaitTimeout})}
	s.command = slices.Concat(redisCommand(t), []string{"--bind", "127.0.0.1", "--port", portOf(addr), "--dir", dir, "--logfile", filepath.Join(dir, "redis.log"),
		"--save", "", "--appendonly", "no", "--enable-debug-command", "yes", "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"}, options)
	t.Cleanup(func() {
		_ = s.Client.Close()
		s.end(syscall.SIGKILL)
		_ = os.RemoveAll(dir)
	})
	return s
}

// redisCommand is how the shared pair's Redis was started, wherever it was found or unpacked.
func redisCommand(t testing.TB) []string {
	t.Helper()
	foundRedis.Do(func() {
		if pair, err := sharedPair(t); err == nil {
			foundRedis.command = pair.Redis.Command
		}
	})
	if len(foundRedis.command) == 0 {
		t.Fatal("the services do not say how their Redis was started")
	}
	return foundRedis.command
}

var foundRedis struct {
	sync.Once
	command []string
}

func portOf(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}

func (s *RedisServer) launch() {
	s.t.Helper()
	process := exec.Command(s.command[0], s.command[1:]...)
	if err := process.Start(); err != nil {
		s.t.Fatalf("start Redis: %v", err)
	}
	s.process = process
}

func (s *RedisServer) await() {
	s.t.Helper()
	Eventually(s.t, "Redis at "+s.Addr+" answers", func() bool { return s.Client.Ping(context.Background()).Err() == nil })
}

func (s *RedisServer) end(with syscall.Signal) {
	if s.process == nil {
		return
	}
	_ = s.process.Process.Signal(syscall.SIGCONT) // a frozen one would not end
	_ = s.process.Process.Signal(with)
	_ = s.process.Wait()
	s.process = nil
}

// Kill ends the server with SIGKILL.
func (s *RedisServer) Kill() { s.end(syscall.SIGKILL) }

// Stop asks the server to end, and waits until it has.
func (s *RedisServer) Stop() { s.end(syscall.SIGTERM) }

// Start starts the server again, with what it has on disk.
func (s *RedisServer) Start() { s.t.Helper(); s.launch(); s.await() }

// Freeze stops the process until Thaw: its connections stay.
func (s *RedisServer) Freeze() { s.t.Helper(); s.signal(syscall.SIGSTOP) }

// Thaw has a frozen process go on.
func (s *RedisServer) Thaw() { s.t.Helper(); s.signal(syscall.SIGCONT) }

func (s *RedisServer) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.process.Process.Signal(sig); err != nil {
		s.t.Fatalf("signal Redis: %v", err)
	}
}

// Do sends one command and returns its reply.
func (s *RedisServer) Do(args ...any) any {
	s.t.Helper()
	reply, err := s.Client.Do(context.Background(), args...).Result()
	if err != nil {
		s.t.Fatalf("%v at %s: %v", args, s.Addr, err)
	}
	return reply
}

// Info is one field of INFO.
func (s *RedisServer) Info(section, field string) string {
	text, err := s.Client.Info(context.Background(), section).Result()
	if err != nil {
		return ""
	}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && name == field {
			return value
		}
	}
	return ""
}

// OwnReplica starts a replica of a server of the same test, and waits until it follows.
func OwnReplica(t testing.TB, primary *RedisServer, options ...string) *RedisServer {
	t.Helper()
	s := OwnRedis(t, append([]string{"--replicaof", "127.0.0.1 " + portOf(primary.Addr)}, options...)...)
	s.awaitLink()
	return s
}

func (s *RedisServer) awaitLink() {
	s.t.Helper()
	Eventually(s.t, "replica "+s.Addr+" follows", func() bool { return s.Info("replication", "master_link_status") == "up" })
}

// Eventually asks until it is so, and fails t when it takes too long.
func Eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	deadline := time.NewTimer(redisWaitTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(redisPoll)
	defer tick.Stop()
	for !done() {
		select {
		case <-deadline.C:
			t.Fatalf("%s: not so after %v", what, redisWaitTimeout)
		case <-tick.C:
		}
	}
}

// SentinelSet is a primary with one replica and three sentinels that watch it. They start no failover by themselves within a test's time.
type SentinelSet struct {
	Name      string
	Addrs     []string // of the sentinels
	Primary   *RedisServer
	Replica   *RedisServer
	Sentinels []*RedisServer

	t testing.TB
}

// OwnSentinels starts a set for t alone.
func OwnSentinels(t testing.TB, options ...string) *SentinelSet {
	t.Helper()
	set := &SentinelSet{Name: "shop", t: t}
	set.Primary = OwnRedis(t, options...)
	set.Replica = OwnReplica(t, set.Primary, options...)
	for range 3 {
		s := newRedis(t, nil)
		text := fmt.Sprintf("port %s\nbind 127.0.0.1\ndir %s\nlogfile %s\nsentinel monitor %s 127.0.0.1 %s 2\nsentinel down-after-milliseconds %[4]s 60000\nsentinel failover-timeout %[4]s 10000\n",
			portOf(s.Addr), s.Dir, filepath.Join(s.Dir, "sentinel.log"), set.Name, portOf(set.Primary.Addr))
		file := filepath.Join(s.Dir, "sentinel.conf")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s.command = slices.Concat(redisCommand(t), []string{file, "--sentinel"})
		s.launch()
		s.await()
		set.Sentinels, set.Addrs = append(set.Sentinels, s), append(set.Addrs, s.Addr)
	}
	for _, s := range set.Sentinels {
		Eventually(t, "sentinel "+s.Addr+" knows the replica and the other sentinels", func() bool {
			fields := mapOf(s.Client.Do(context.Background(), "SENTINEL", "MASTER", set.Name).Val())
			return fields["num-slaves"] == "1" && fields["num-other-sentinels"] == "2"
		})
	}
	return set
}

func mapOf(reply any) map[string]string {
	list, _ := reply.([]any)
	fields := map[string]string{}
	for i := 0; i+1 < len(list); i += 2 {
		fields[fmt.Sprint(list[i])] = fmt.Sprint(list[i+1])
	}
	return fields
}

// Failover has the sentinels make the replica the primary, and waits until all of them say so. The old primary, if it lives, goes on to take
// writes until they have told it, which takes some seconds.
func (s *SentinelSet) Failover() {
	s.t.Helper()
	Eventually(s.t, "the failover begins", func() bool {
		return s.Sentinels[0].Client.Do(context.Background(), "SENTINEL", "FAILOVER", s.Name).Err() == nil
	})
	for _, sentinel := range s.Sentinels {
		Eventually(s.t, "sentinel "+sentinel.Addr+" knows the new primary", func() bool {
			found, err := sentinel.Client.Do(context.Background(), "SENTINEL", "GET-MASTER-ADDR-BY-NAME", s.Name).StringSlice()
			return err == nil && len(found) == 2 && net.JoinHostPort(found[0], found[1]) == s.Replica.Addr
		})
	}
	s.Primary, s.Replica = s.Replica, s.Primary
}

// ClusterSlots is the number of slots of a Redis Cluster.
const ClusterSlots = 16384

// RedisCluster is a Redis Cluster of three primaries with a third of the slots and one replica each. It starts no failover by itself, and goes on
// without a primary that is dead.
type RedisCluster struct {
	Addrs     []string // of the first primaries
	Primaries []*RedisServer
	Replicas  []*RedisServer // of the primary with the same index

	t testing.TB
}

// OwnCluster starts a cluster for t alone.
func OwnCluster(t testing.TB, options ...string) *RedisCluster {
	t.Helper()
	c := &RedisCluster{t: t}
	var all []*RedisServer
	buses := map[*RedisServer]string{}
	for range 6 {
		bus := portOf(harness.FreeAddr(t))
		s := newRedis(t, append([]string{"--cluster-enabled", "yes", "--cluster-node-timeout", clusterNodeTimeout,
			"--cluster-replica-no-failover", "yes", "--cluster-require-full-coverage", "no", "--cluster-port", bus}, options...))
		s.launch()
		all, buses[s] = append(all, s), bus
	}
	c.Primaries, c.Replicas = all[:3], all[3:]
	for i, s := range all {
		s.await()
		s.Do("CLUSTER", "SET-CONFIG-EPOCH", i+1)
		if i < 3 {
			c.Addrs = append(c.Addrs, s.Addr)
			s.Do("CLUSTER", "ADDSLOTSRANGE", ClusterSlots*i/3, ClusterSlots*(i+1)/3-1)
		}
		if i > 0 {
			all[0].Do("CLUSTER", "MEET", "127.0.0.1", portOf(s.Addr), buses[s])
		}
	}
	for _, s := range all {
		Eventually(t, "node "+s.Addr+" knows the others", func() bool {
			text, _ := s.Client.ClusterNodes(context.Background()).Result()
			return strings.Count(text, "connected") == len(all) && !strings.Contains(text, "handshake") && !strings.Contains(text, "disconnected")
		})
	}
	for i, s := range c.Replicas {
		s.Do("CLUSTER", "REPLICATE", c.Primaries[i].ID())
	}
	c.awaitAgreement()
	return c
}

// awaitAgreement waits until every node that runs gives all slots to the primaries, each with its replica.
func (c *RedisCluster) awaitAgreement() {
	c.t.Helper()
	for i, s := range c.Replicas {
		if s.process != nil && c.Primaries[i].process != nil {
			s.awaitLink()
		}
	}
	var want []string
	for i, p := range c.Primaries {
		addrs := []string{p.Addr}
		if c.Replicas[i].process != nil {
			addrs = append(addrs, c.Replicas[i].Addr)
		}
		want = append(want, strings.Join(addrs, " "))
	}
	slices.Sort(want)
	for _, s := range slices.Concat(c.Primaries, c.Replicas) {
		if s.process == nil {
			continue
		}
		Eventually(c.t, "node "+s.Addr+" agrees", func() bool {
			ctx := context.Background()
			found, err := s.Client.ClusterSlots(ctx).Result()
			info, err2 := s.Client.ClusterInfo(ctx).Result()
			if err != nil || err2 != nil || !strings.Contains(info, "cluster_state:ok") {
				return false
			}
			seen, covered := map[string]bool{}, 0
			for _, slots := range found {
				var addrs []string
				for _, n := range slots.Nodes {
					addrs = append(addrs, n.Addr)
				}
				seen[strings.Join(addrs, " ")] = true
				covered += slots.End - slots.Start + 1
			}
			var got []string
			for text := range seen {
				got = append(got, text)
			}
			slices.Sort(got)
			return covered == ClusterSlots && slices.Equal(got, want)
		})
	}
}

// ID is the server's name in its cluster.
func (s *RedisServer) ID() string { s.t.Helper(); return fmt.Sprint(s.Do("CLUSTER", "MYID")) }

// Owner is the index of the primary that serves a key.
func (c *RedisCluster) Owner(key string) int {
	c.t.Helper()
	slot := int(c.Primaries[0].Do("CLUSTER", "KEYSLOT", key).(int64))
	for _, slots := range c.slots() {
		if slot < slots.Start || slot > slots.End {
			continue
		}
		if at := slices.IndexFunc(c.Primaries, func(p *RedisServer) bool { return p.Addr == slots.Nodes[0].Addr }); at >= 0 {
			return at
		}
	}
	c.t.Fatalf("nobody serves slot %d", slot)
	return 0
}

func (c *RedisCluster) slots() []redis.ClusterSlot {
	c.t.Helper()
	for _, s := range slices.Concat(c.Primaries, c.Replicas) {
		if s.process == nil {
			continue
		}
		found, err := s.Client.ClusterSlots(context.Background()).Result()
		if err != nil {
			c.t.Fatal(err)
		}
		return found
	}
	c.t.Fatal("no node runs")
	return nil
}

// Migrate moves the slot of a key, with all its keys, to another primary, as the tools for it do. It returns when every node knows.
func (c *RedisCluster) Migrate(key string, to int) {
	c.t.Helper()
	from := c.Owner(key)
	slot := c.Primaries[0].Do("CLUSTER", "KEYSLOT", key)
	source, target := c.Primaries[from], c.Primaries[to]
	c.BeginMigration(key, to)
	for _, name := range source.Do("CLUSTER", "GETKEYSINSLOT", slot, 1000).([]any) {
		source.Do("MIGRATE", "127.0.0.1", portOf(target.Addr), name, 0, 5000)
	}
	for _, s := range slices.Concat([]*RedisServer{target, source}, c.Primaries) {
		s.Do("CLUSTER", "SETSLOT", slot, "NODE", target.ID())
	}
	Eventually(c.t, "every node knows where the slot is", func() bool {
		for _, s := range slices.Concat(c.Primaries, c.Replicas) {
			found, err := s.Client.ClusterSlots(context.Background()).Result()
			if err != nil || !slices.ContainsFunc(found, func(slots redis.ClusterSlot) bool {
				return int64(slots.Start) <= slot.(int64) && slot.(int64) <= int64(slots.End) && slots.Nodes[0].Addr == target.Addr
			}) {
				return false
			}
		}
		return true
	})
}

// BeginMigration opens the slot of a key for moving, and moves nothing.
func (c *RedisCluster) BeginMigration(key string, to int) {
	c.t.Helper()
	from := c.Owner(key)
	slot := c.Primaries[0].Do("CLUSTER", "KEYSLOT", key)
	c.Primaries[to].Do("CLUSTER", "SETSLOT", slot, "IMPORTING", c.Primaries[from].ID())
	c.Primaries[from].Do("CLUSTER", "SETSLOT", slot, "MIGRATING", c.Primaries[to].ID())
}

// Failover has the replica of a primary take over, with the primary's consent if it lives, and waits until every node knows.
func (c *RedisCluster) Failover(primary int) {
	c.t.Helper()
	how := []any{"CLUSTER", "FAILOVER"}
	if c.Primaries[primary].process == nil {
		how = append(how, "TAKEOVER")
	}
	c.Replicas[primary].Do(how...)
	c.Primaries[primary], c.Replicas[primary] = c.Replicas[primary], c.Primaries[primary]
	c.awaitAgreement()
}
