package redisquiesce

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// place is where a command that blocks has its timeout.
type place int

const (
	first place = 1  // behind the name
	last  place = -1 // at the end
)

// timeouts of the commands that have them at a fixed place, in seconds, 0 being for ever.
var timeouts = map[string]place{
	"blpop": last, "brpop": last, "brpoplpush": last, "blmove": last, "bzpopmin": last, "bzpopmax": last,
	"blmpop": first, "bzmpop": first,
}

// block is the timeout of a command.
type block struct {
	at      int           // index among the arguments
	seconds bool          // else milliseconds
	wait    time.Duration // 0: for ever
}

// blockOf finds the timeout of a command that blocks. One that is not where it should be is left to Redis to refuse.
func blockOf(cmd redis.Cmder) (block, bool) {
	args := cmd.Args()
	name := cmd.Name()
	if where, ok := timeouts[name]; ok && len(args) > 2 {
		b := block{at: int(where), seconds: true}
		if where == last {
			b.at = len(args) - 1
		}
		seconds, err := strconv.ParseFloat(fmt.Sprint(args[b.at]), 64)
		b.wait = time.Duration(seconds * float64(time.Second))
		return b, err == nil && b.wait >= 0
	}
	if name != "xread" && name != "xreadgroup" {
		return block{}, false
	}
	for i := 1; i+1 < len(args); i++ {
		switch word(args[i]) {
		case "streams":
			return block{}, false // it does not block
		case "block":
			ms, err := strconv.ParseInt(fmt.Sprint(args[i+1]), 10, 64)
			return block{at: i + 1, wait: time.Duration(ms) * time.Millisecond}, err == nil && ms >= 0
		}
	}
	return block{}, false
}

func word(arg any) string {
	s, _ := arg.(string)
	return strings.ToLower(s)
}

// set writes a timeout into the command.
func (b block) set(cmd redis.Cmder, d time.Duration) {
	if b.seconds {
		cmd.Args()[b.at] = strconv.FormatFloat(d.Round(time.Millisecond).Seconds(), 'f', -1, 64)
		return
	}
	cmd.Args()[b.at] = max(d.Milliseconds(), 1) // 0 would be for ever
}

// fixLast replaces $ by the last id that each stream has now: asked for again, $ would be a later one, and what came between be missed.
func (h *hook) fixLast(ctx context.Context, cmd redis.Cmder) error {
	if cmd.Name() != "xread" {
		return nil
	}
	args := cmd.Args()
	streams := 0
	for i := 1; i < len(args) && streams == 0; i++ {
		if word(args[i]) == "streams" {
			streams = i + 1
		}
	}
	n := (len(args) - streams) / 2
	for i := streams + n; streams > 0 && i < len(args); i++ {
		if args[i] != "$" {
			continue
		}
		id, err := h.lastID(ctx, fmt.Sprint(args[i-n]))
		if err != nil {
			return err
		}
		args[i] = id
	}
	return nil
}

func (h *hook) lastID(ctx context.Context, stream string) (string, error) {
	newest, err := h.rdb.XRevRangeN(ctx, stream, "+", "-", 1).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return "", fmt.Errorf("the last id of %q: %w", stream, err)
	}
	if len(newest) == 0 {
		return "0-0", nil
	}
	return newest[0].ID, nil
}
