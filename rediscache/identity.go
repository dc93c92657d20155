package rediscache

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// RolePrimary is what a server that takes writes calls itself.
const RolePrimary = "master"

// Identity tells one life of one server from another. A changed RunID is a restart or another server, a changed ReplID a failover: in
// both cases acknowledged writes may be gone and their guards with them.
type Identity struct {
	RunID           string
	ReplID          string
	Role            string
	Version         string
	MaxMemoryPolicy string
	Uptime          time.Duration // whole seconds
	Loading         bool
}

// infoReplies are the INFO sections an Identity is made of: one command a section, because a list of them needs Redis 7.
type infoReplies []*redis.StringCmd

func pipeInfo(ctx context.Context, pipe redis.Pipeliner) infoReplies {
	return infoReplies{
		pipe.Info(ctx, "server"),
		pipe.Info(ctx, "replication"),
		pipe.Info(ctx, "memory"),
		pipe.Info(ctx, "persistence"),
	}
}

func (r infoReplies) identity() Identity {
	fields := make(map[string]string)
	for _, reply := range r {
		for line := range strings.Lines(reply.Val()) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
				fields[name] = value
			}
		}
	}
	// A server that hides its uptime is one whose restarts the run id still shows.
	uptimeSeconds, _ := strconv.ParseInt(fields["uptime_in_seconds"], 10, 64)
	return Identity{
		RunID:           fields["run_id"],
		ReplID:          fields["master_replid"],
		Role:            fields["role"],
		Version:         fields["redis_version"],
		MaxMemoryPolicy: fields["maxmemory_policy"],
		Uptime:          time.Duration(uptimeSeconds) * time.Second,
		Loading:         fields["loading"] == "1",
	}
}
