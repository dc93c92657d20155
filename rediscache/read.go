package rediscache

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/quiescehq/quiesce/mapping"
)

// KeyRequest is one key to read, and the type that the mapping expects there: mapping.TypeString or mapping.TypeHash.
type KeyRequest struct {
	Key     string
	Type    string
	Forever bool // nobody asks when it expires: NoExpiry comes back, whatever is true
}

// Read returns what at most 1,000 keys hold, in the order of requests. A key of another type than the expected one comes back with its type
// and without its content. The keys are not read at one instant, only a key's value and TTL are close: a mismatch is for the caller to
// confirm. Hashes come with all their fields, in no order. Where one server fails, there is no answer at all.
func (t *Target) Read(ctx context.Context, requests []KeyRequest) ([]mapping.Actual, error) {
	if err := validateRequests(requests); err != nil {
		return nil, fmt.Errorf("redis target %q: read: %w", t.config.Name, err)
	}
	if len(requests) == 0 {
		return nil, nil
	}
	actuals := make([]mapping.Actual, len(requests))
	err := t.spread(ctx, len(requests), func(i int) string { return requests[i].Key }, func(n *node, at []int) error {
		return t.readFrom(ctx, n, requests, at, actuals)
	})
	if err != nil {
		return nil, t.fail(ctx, "read", err)
	}
	return actuals, nil
}

// spread has every node do the requests whose keys it has, all side by side.
func (t *Target) spread(ctx context.Context, n int, key func(i int) string, do func(n *node, at []int) error) error {
	l, err := t.fleet.layout(ctx)
	if err != nil {
		return err
	}
	own := make([][]int, len(l.nodes))
	for i := range n {
		var slot uint16
		if l.owner != nil {
			slot = slotOf(key(i))
		}
		at, err := l.nodeOf(slot)
		if err != nil {
			t.fleet.doubt(l)
			return err
		}
		own[at] = append(own[at], i)
	}
	err = atOnce(len(l.nodes), func(at int) error {
		if len(own[at]) == 0 {
			return nil
		}
		return do(l.nodes[at], own[at])
	})
	if err != nil {
		t.fleet.doubt(l)
	}
	return err
}

// readFrom reads the requests at some indexes from one server. Behind sentinels the server is asked for its role in the same breath: a replica
// answers reads as well, with what it has. In a cluster a replica answers none.
func (t *Target) readFrom(ctx context.Context, n *node, requests []KeyRequest, at []int, actuals []mapping.Actual) error {
	reads := make([]keyRead, len(at))
	pipe := n.client.Pipeline()
	together := t.pipeTogether(ctx, pipe, requests, at)
	for j, i := range at {
		reads[j] = pipeRead(ctx, pipe, requests[i], together != nil)
	}
	role := t.pipeRole(ctx, pipe)
	_, _ = pipe.Exec(ctx) // every error is also on a reply below
	values, err := together.values()
	if err != nil {
		return err
	}
	var odd []int
	for j, i := range at {
		if reads[j].together {
			reads[j].text, values = values[0], values[1:]
		}
		actual, err := reads[j].actual()
		if errors.Is(err, errOtherType) {
			odd = append(odd, i)
		} else if err != nil {
			return err
		}
		actuals[i] = actual
	}
	if err := checkRole(role); err != nil {
		return err
	}
	return classifyOdd(ctx, n, requests, odd, actuals)
}

func (t *Target) pipeRole(ctx context.Context, pipe redis.Pipeliner) *redis.StringCmd {
	if t.config.Kind != Sentinel {
		return nil
	}
	return pipe.Info(ctx, "replication")
}

func checkRole(role *redis.StringCmd) error {
	if role == nil {
		return nil
	}
	text, err := role.Result()
	if err == nil && !strings.Contains(text, "role:"+RolePrimary) {
		return fmt.Errorf("%w: it answered as a replica", ErrNotPrimary)
	}
	return err
}

// mget is the strings of a read in one command, where one server has them all: it costs both sides a third of as many commands. Its replies do not tell nothing from an empty
// string or another type, so whatever comes back empty is asked for its type.
type mget struct{ reply *redis.StringSliceCmd }

func (t *Target) pipeTogether(ctx context.Context, pipe redis.Pipeliner, requests []KeyRequest, at []int) *mget {
	if t.config.Kind == Cluster {
		return nil // a command has keys of one slot there
	}
	args := make([]any, 1, 1+len(at))
	args[0] = "mget"
	for _, i := range at {
		if requests[i].Type != mapping.TypeHash {
			args = append(args, requests[i].Key)
		}
	}
	if len(args) == 1 {
		return nil
	}
	m := &mget{reply: redis.NewStringSliceCmd(ctx, args...)}
	_ = pipe.Process(ctx, m.reply) // it only queues
	return m
}

func (m *mget) values() ([]string, error) {
	if m == nil {
		return nil, nil
	}
	values, err := m.reply.Result()
	if want := len(m.reply.Args()) - 1; err == nil && len(values) != want {
		err = fmt.Errorf("%w: %d values of %d keys", ErrUnexpected, len(values), want)
	}
	return values, err
}

// classifyOdd asks for the types of the keys that were not what the mapping expects. A key that became the expected type meanwhile stays
// "other", which is what the first read saw.
func classifyOdd(ctx context.Context, n *node, requests []KeyRequest, odd []int, actuals []mapping.Actual) error {
	if len(odd) == 0 {
		return nil
	}
	pipe := n.client.Pipeline()
	types := make([]*redis.StatusCmd, len(odd))
	for n, i := range odd {
		types[n] = pipe.Type(ctx, requests[i].Key)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return err
	}
	for n, i := range odd {
		empty := actuals[i].Type == mapping.TypeString // by all that was seen of it
		actuals[i].Type, actuals[i].Value = mapping.TypeOther, nil
		switch found := types[n].Val(); found {
		case requests[i].Type:
			if empty {
				actuals[i].Type, actuals[i].Value = found, []byte{}
			}
		case mapping.TypeString, mapping.TypeHash, mapping.TypeNone:
			actuals[i].Type, actuals[i].Value = found, nil
		}
	}
	return nil
}

// keyRead holds the replies for one key: one of fields, value, and the text of an mget. Without a ttl nobody asked for it.
type keyRead struct {
	together bool
	text     string
	value    *redis.StringCmd
	fields   *redis.StringSliceCmd
	ttl      *redis.DurationCmd
}

// pipeRead reads a hash as the flat list that the server sends: a map of it would be built only to be taken apart again.
func pipeRead(ctx context.Context, pipe redis.Pipeliner, request KeyRequest, together bool) keyRead {
	var read keyRead
	switch {
	case request.Type == mapping.TypeHash:
		read.fields = redis.NewStringSliceCmd(ctx, "hgetall", request.Key)
		_ = pipe.Process(ctx, read.fields) // it only queues
	case together:
		read.together = true
	default:
		read.value = pipe.Get(ctx, request.Key)
	}
	if !request.Forever {
		read.ttl = pipe.PTTL(ctx, request.Key)
	}
	return read
}

// actual takes a key that expired between its two replies for a missing one.
func (r keyRead) actual() (mapping.Actual, error) {
	ttl := pttlForever
	if r.ttl != nil {
		var err error
		if ttl, err = r.ttl.Result(); err != nil {
			return mapping.Actual{}, err
		}
	}
	actual, err := r.content()
	if err != nil && !errors.Is(err, errOtherType) {
		return mapping.Actual{}, err
	}
	actual.TTLMillis = mapping.NoExpiry
	if ttl >= 0 {
		actual.TTLMillis = ttl.Milliseconds()
	}
	if ttl == pttlMissing {
		return mapping.Actual{Type: mapping.TypeNone, TTLMillis: mapping.NoExpiry}, nil
	}
	return actual, err
}

// How the client hands on PTTL's answers for a key that does not exist, and for one that does not expire.
const (
	pttlMissing = time.Duration(-2)
	pttlForever = time.Duration(-1)
)

func (r keyRead) content() (mapping.Actual, error) {
	if r.fields != nil {
		return hashContent(r.fields.Result())
	}
	if r.together {
		var err error
		if r.text == "" {
			err = errOtherType // perhaps
		}
		return mapping.Actual{Type: mapping.TypeString, Value: []byte(r.text)}, err
	}
	value, err := r.value.Bytes()
	switch {
	case errors.Is(err, redis.Nil):
		return mapping.Actual{Type: mapping.TypeNone}, nil
	case err != nil:
		return mapping.Actual{}, otherType(err)
	}
	return mapping.Actual{Type: mapping.TypeString, Value: value}, nil
}

func hashContent(flat []string, err error) (mapping.Actual, error) {
	switch {
	case err != nil:
		return mapping.Actual{}, otherType(err)
	case len(flat) == 0:
		return mapping.Actual{Type: mapping.TypeNone}, nil
	case len(flat)%2 != 0:
		return mapping.Actual{}, fmt.Errorf("%w: a hash of %d names and values", ErrUnexpected, len(flat))
	}
	fields := make([]mapping.Field, 0, len(flat)/2)
	for i := 0; i < len(flat); i += 2 {
		fields = append(fields, mapping.Field{Name: flat[i], Value: []byte(flat[i+1])})
	}
	return mapping.Actual{Type: mapping.TypeHash, Fields: fields}, nil
}

func otherType(err error) error {
	if strings.HasPrefix(err.Error(), "WRONGTYPE ") {
		return errOtherType
	}
	return err
}

func validateRequests(requests []KeyRequest) error {
	if len(requests) > batchKeysMax {
		return fmt.Errorf("%w: %d keys, at most %d", ErrInvalid, len(requests), batchKeysMax)
	}
	for _, request := range requests {
		if request.Key == "" || request.Type != mapping.TypeString && request.Type != mapping.TypeHash {
			return fmt.Errorf("%w: key %q of type %q", ErrInvalid, request.Key, request.Type)
		}
	}
	return nil
}
