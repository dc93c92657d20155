package rediscache

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// RolePrimary is what a server that takes writes calls itself.
const RolePrimary = "master"

// Identity tells one life of a target from another.
type Identity struct {
	// Life is a name of 40 characters. It changes when a server restarted, when another one took over, and when slots moved: in each case
	// acknowledged writes may be gone and their guards with them, and keys lie in another order. Empty where not every primary was asked.
	Life string

	Servers []Server // the primaries that were asked, by address

	Role            string        // RolePrimary if all are
	Version         string        // the first server's
	MaxMemoryPolicy string        // where they differ, the one that is the most dangerous for guards
	Uptime          time.Duration // how long the target has surely been what it is. 0 where a long-lived replica may have taken over
	Loading         bool
}

// Server is one primary as it described itself.
type Server struct {
	Addr            string
	RunID           string // changes with a restart
	ReplID          string // changes with a failover; also once a primary has been without replicas for an hour
	Role            string
	Version         string
	MaxMemoryPolicy string
	Uptime          time.Duration // whole seconds
	Loading         bool
	ClockMillis     int64 // its clock, when it was asked

	AOF         bool
	AOFBroken   bool   // the last write to the file failed
	AppendFsync string // always, everysec or no; empty where it does not say
	SavedMillis int64  // what was acknowledged before it is in the last dump of this life; 0: there is none
	Offset      int64  // of its replication stream
	Replicas    []Replica
}

// Replica is one replica as its primary knows it.
type Replica struct {
	Addr   string
	Online bool
	Offset int64         // acknowledged; what is up to it survives a failover to this replica
	Lag    time.Duration // since its last acknowledgement, in whole seconds
}

// Life names this life of the server.
func (s Server) Life() string { return digest(s.RunID, s.ReplID) }

// NothingLost is later than every moment of a server's clock.
const NothingLost = math.MaxInt64

// everySecond is how late an append-only file with everysec may be: the server makes writers wait beyond it.
const everySecond = 2 * time.Second

// DurableSince is the moment of the server's own clock since which acknowledged writes may be lost when it restarts now: NothingLost if none, 0 if
// all. It is read off what the server said, so a caller keeps the last answer before the restart.
func (s Server) DurableSince() int64 {
	switch {
	case s.AOF && s.AOFBroken:
		return 0
	case s.AOF && s.AppendFsync == "always":
		return NothingLost
	case s.AOF && s.AppendFsync == "everysec":
		return s.ClockMillis - everySecond.Milliseconds()
	case s.AOF: // left to the kernel, or not said
		return 0
	}
	return s.SavedMillis
}

// DurableSince is the earliest of the servers'. Their clocks need not agree: with more than one, a caller who wants it exact asks each Server.
func (i Identity) DurableSince() int64 {
	since := int64(NothingLost)
	for _, s := range i.Servers {
		since = min(since, s.DurableSince())
	}
	if len(i.Servers) == 0 {
		return 0
	}
	return since
}

// identify sums up the servers of a layout. Those that were not asked are zero.
func (t *Target) identify(l *layout, servers []Server) Identity {
	identity := Identity{Role: RolePrimary}
	lives := []string{string(t.config.Kind)}
	for i, s := range servers {
		if s.Addr == "" {
			continue
		}
		lives = append(lives, s.Addr, s.RunID, s.ReplID, l.ranges(i))
		identity.Servers = append(identity.Servers, s)
		identity.Loading = identity.Loading || s.Loading
		if s.Role != RolePrimary {
			identity.Role = s.Role
		}
		if policyDanger(s.MaxMemoryPolicy) >= policyDanger(identity.MaxMemoryPolicy) {
			identity.MaxMemoryPolicy = s.MaxMemoryPolicy
		}
	}
	if len(identity.Servers) == len(l.nodes) {
		identity.Life = digest(lives...)
	}
	if len(identity.Servers) > 0 {
		identity.Version = identity.Servers[0].Version
		if t.config.Kind == Standalone {
			identity.Uptime = identity.Servers[0].Uptime
		}
	}
	return identity
}

// ranges names the slots of a node.
func (l *layout) ranges(node int) string {
	if l.owner == nil {
		return "all"
	}
	var text strings.Builder
	for slot := 0; slot < slotCount; slot++ {
		first := slot
		for slot < slotCount && int(l.owner[slot]) == node+1 {
			slot++
		}
		if slot > first {
			fmt.Fprintf(&text, "%d-%d ", first, slot-1)
		}
	}
	return text.String()
}

func digest(parts ...string) string {
	sum := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(sum, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(sum.Sum(nil)[:20])
}

// policyDanger grows with how likely a policy is to take guards, which all have a TTL, before the data that they guard.
func policyDanger(policy string) int {
	return 1 + slices.Index([]string{"noeviction", "allkeys-lfu", "allkeys-lru", "volatile-lfu", "volatile-lru", "allkeys-random", "volatile-random", "volatile-ttl"}, policy)
}

// selfPortrait is the clock and the INFO sections that a Server is made of: one command a section, because a list of them needs Redis 7.
type selfPortrait struct {
	clock *redis.TimeCmd
	info  []*redis.StringCmd
}

// pipeServer asks for the clock first: every later moment of the server is then later than that.
func pipeServer(ctx context.Context, pipe redis.Pipeliner) selfPortrait {
	return selfPortrait{clock: pipe.Time(ctx), info: []*redis.StringCmd{
		pipe.Info(ctx, "server"),
		pipe.Info(ctx, "replication"),
		pipe.Info(ctx, "memory"),
		pipe.Info(ctx, "persistence"),
	}}
}

func (p selfPortrait) server(addr string) Server {
	fields := make(map[string]string)
	for _, reply := range p.info {
		for line := range strings.Lines(reply.Val()) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
				fields[name] = value
			}
		}
	}
	// A server that hides a number is one of which that is not known: zero is the careful answer everywhere.
	number := func(name string) int64 { n, _ := strconv.ParseInt(fields[name], 10, 64); return n }
	s := Server{
		Addr:            addr,
		RunID:           fields["run_id"],
		ReplID:          fields["master_replid"],
		Role:            fields["role"],
		Version:         fields["redis_version"],
		MaxMemoryPolicy: fields["maxmemory_policy"],
		Uptime:          time.Duration(number("uptime_in_seconds")) * time.Second,
		Loading:         fields["loading"] == "1",
		ClockMillis:     p.clock.Val().UnixMilli(),
		AOF:             fields["aof_enabled"] == "1",
		AOFBroken:       fields["aof_last_write_status"] == "err",
		Offset:          number("master_repl_offset"),
	}
	// A server gives the moment of its start for that of its last save until there is one. A dump holds what was there when it was begun.
	started := s.ClockMillis/1000 - number("uptime_in_seconds")
	if saved := number("rdb_last_save_time"); saved > started+1 {
		s.SavedMillis = (saved - max(number("rdb_last_bgsave_time_sec"), 0) - 1) * 1000
	}
	for i := range number("connected_slaves") {
		if replica, ok := parseReplica(fields["slave"+strconv.FormatInt(i, 10)]); ok {
			s.Replicas = append(s.Replicas, replica)
		}
	}
	slices.SortFunc(s.Replicas, func(a, b Replica) int { return cmp.Compare(a.Addr, b.Addr) })
	return s
}

// parseReplica reads ip=127.0.0.1,port=6380,state=online,offset=42,lag=0.
func parseReplica(text string) (Replica, bool) {
	fields := make(map[string]string)
	for part := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(part, "=")
		fields[name] = value
	}
	offset, err := strconv.ParseInt(fields["offset"], 10, 64)
	lag, _ := strconv.ParseInt(fields["lag"], 10, 64) // -1 before the first acknowledgement
	return Replica{
		Addr:   fields["ip"] + ":" + fields["port"],
		Online: fields["state"] == "online",
		Offset: offset,
		Lag:    time.Duration(max(lag, 0)) * time.Second,
	}, err == nil
}

// diskPolicy is what INFO does not say.
type diskPolicy struct {
	runID       string
	appendFsync string
	asked       time.Time
}

// diskPolicyAge is how long an answer about the disk is believed.
const diskPolicyAge = time.Minute

// pipeliner is a pool, or one connection of it.
type pipeliner interface {
	Pipeline() redis.Pipeliner
	ConfigGet(ctx context.Context, parameter string) *redis.MapStringStringCmd
}

// ask has a server describe itself.
func (n *node) ask(ctx context.Context, via pipeliner) (Server, error) {
	pipe := via.Pipeline()
	portrait := pipeServer(ctx, pipe)
	if _, err := pipe.Exec(ctx); err != nil {
		return Server{}, err
	}
	s := portrait.server(n.addr)
	return s, n.addDisk(ctx, via, &s)
}

// addDisk asks for the policy of the append-only file, once a minute and life. An account that may not know it is told nothing, and the caller
// has to think the worst.
func (n *node) addDisk(ctx context.Context, via pipeliner, s *Server) error {
	if !s.AOF {
		return nil
	}
	known := n.disk.Load()
	if known == nil || known.runID != s.RunID || time.Since(known.asked) > diskPolicyAge {
		found, err := via.ConfigGet(ctx, "appendfsync").Result()
		var reply redis.Error
		if err != nil && !errors.As(err, &reply) {
			return err
		}
		known = &diskPolicy{runID: s.RunID, appendFsync: found["appendfsync"], asked: time.Now()}
		n.disk.Store(known)
	}
	s.AppendFsync = known.appendFsync
	return nil
}
