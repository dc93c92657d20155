package redisquiesce_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/quiescehq/quiesce/client/redisquiesce"
	"github.com/quiescehq/quiesce/cluster_test/harness"
)

// loadsAll answers from a table and notes what it was asked.
func loadsAll(table map[string]string, asked *[][]string) redisquiesce.LoadMany {
	return func(_ context.Context, keys []string) (map[string][]byte, error) {
		if asked != nil {
			*asked = append(*asked, keys)
		}
		out := map[string][]byte{}
		for _, key := range keys {
			if value, found := table[key]; found {
				out[key] = []byte(value)
			}
		}
		return out, nil
	}
}

func TestFetchMany_LoadsWhatIsMissingOnce(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	c := s.process(redisquiesce.Negative("null", time.Minute))
	table := map[string]string{}
	var keys []string
	for i := range 250 {
		keys = append(keys, fmt.Sprintf("%s%03d", s.prefix, i))
		table[keys[i]] = fmt.Sprint(i)
	}
	delete(table, keys[7])
	s.do("SET", keys[3], "cached")
	var asked [][]string
	for range 2 {
		got, err := c.FetchMany(t.Context(), append(keys, keys[0]), time.Minute, loadsAll(table, &asked))
		if err != nil || len(got) != 249 || string(got[keys[3]]) != "cached" || string(got[keys[249]]) != "249" {
			t.Fatalf("%d values, %v", len(got), err)
		}
	}
	if len(asked) != 1 || len(asked[0]) != 249 || slices.Contains(asked[0], keys[3]) {
		t.Errorf("load was called %d times", len(asked))
	}
	if _, err := c.Fetch(t.Context(), keys[7], time.Minute, newTruth("").load); !errors.Is(err, redisquiesce.ErrNotFound) {
		t.Errorf("what is not there: %v", err)
	}
}

func TestFetchMany_EachFillIsJudgedByItself(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	c, writer := s.process(), s.process()
	a, b := s.prefix+"a", s.prefix+"b"
	got, err := c.FetchMany(t.Context(), []string{a, b}, time.Minute, func(context.Context, []string) (map[string][]byte, error) {
		if err := writer.Invalidate(t.Context(), a); err != nil { // in the middle of the load
			t.Error(err)
		}
		return map[string][]byte{a: []byte("old"), b: []byte("good")}, nil
	})
	if err != nil || len(got) != 2 {
		t.Fatalf("%q, %v", got, err)
	}
	if s.do("EXISTS", a) != int64(0) || s.do("GET", b) != "good" {
		t.Errorf("the cache holds %v and %v", s.do("GET", a), s.do("GET", b))
	}
}

func TestFetchMany_WaitsForWhatOthersLoadAndGivesBackWhatFails(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	a, b := s.prefix+"a", s.prefix+"b"
	row, holder, c := newTruth("from the other"), s.process(), s.process(redisquiesce.WaitFor(time.Minute))
	read, goOn := make(chan struct{}), make(chan struct{})
	held := begin(t.Context(), holder, a, row.slowly(read, goOn))
	s.wait("the other reads", read)
	errLoad := errors.New("no database")
	if _, err := c.FetchMany(t.Context(), []string{a, b}, time.Minute, func(_ context.Context, keys []string) (map[string][]byte, error) {
		return nil, errLoad
	}); !errors.Is(err, errLoad) {
		t.Errorf("got %v", err)
	}
	if s.do("HEXISTS", cacheGuardOf(b), "l") != int64(0) || s.do("HEXISTS", cacheGuardOf(a), "l") != int64(1) {
		t.Error("the leases are not as they should be")
	}
	got, err := c.FetchMany(t.Context(), []string{a, b}, time.Minute, func(_ context.Context, keys []string) (map[string][]byte, error) {
		close(goOn)
		if !slices.Equal(keys, []string{b}) {
			t.Errorf("asked for %q", keys)
		}
		return map[string][]byte{b: []byte("mine")}, nil
	})
	if err != nil || string(got[a]) != "from the other" || string(got[b]) != "mine" {
		t.Errorf("%q, %v", got, err)
	}
	s.await(held)
}

func TestCache_WorksOnACluster(t *testing.T) {
	t.Parallel()
	addr := ownServer(t, "--cluster-enabled", "yes")
	s := connect(t, addr)
	s.do("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
	harness.Eventually(t, startWithin, "the cluster to be one", func() error {
		if info, _ := s.do("CLUSTER", "INFO").(string); !strings.Contains(info, "cluster_state:ok") {
			return errors.New(info)
		}
		return nil
	})
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{addr}})
	t.Cleanup(func() { _ = client.Close() })
	c := newCache(t, client)
	table := map[string]string{"a": "1", "b": "2", "cart:{3}": "3", "{4}:cart": "4"}
	keys := []string{"a", "b", "cart:{3}", "{4}:cart"}
	for range 2 {
		got, err := c.FetchMany(t.Context(), keys, time.Minute, loadsAll(table, nil))
		if err != nil || len(got) != len(table) {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if stats := c.Stats(); stats.Fills != 4 || stats.Hits != 4 || stats.Errors != 0 {
		t.Errorf("%+v", stats)
	}
	if err := c.Invalidate(t.Context(), keys...); err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		if got := s.fetch(c, key, newTruth("new").load); got != "new" || s.do("GET", key) != "new" {
			t.Errorf("%s: %q", key, got)
		}
	}
}
