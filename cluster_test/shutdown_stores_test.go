package cluster_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client"
	"github.com/quiescehq/quiesce/cluster_test/harness"
	"github.com/quiescehq/quiesce/cluster_test/rolling"
	"github.com/quiescehq/quiesce/cluster_test/services"
)

// ordersProgram is the example application.
const ordersProgram = "examples/orders"

// MySQL and Redis are gone when an instance is told to stop. It ends in its time all the same, and what it owed is paid when they are back: the
// event of its last commit waits in the cluster.
func TestShutdown_StoresThatAreGoneHoldNobodyUp(t *testing.T) {
	t.Parallel()
	own := services.Own(t)
	c := harness.Start(t, harness.Options{MySQL: own.MySQLDSN, Redis: own.RedisAddr})
	addr := harness.FreeAddr(t)
	app := rolling.BeginApp(t, ordersProgram, t.TempDir(), "orders-1", append(rolling.Environment(c, crowdGrace), "ORDERS_HTTP_ADDR="+addr,
		"ORDERS_MYSQL_DSN="+own.MySQLDSN, "ORDERS_REDIS_ADDR="+own.RedisAddr)...)
	b := watchInstances(t, c)
	base := "http://" + addr
	create := func(request string) (id int64, status int) {
		body := fmt.Sprintf(`{"request_id":%q,"customer":"Zoë","amount":"12.50"}`, request)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/orders", bytes.NewReader([]byte(body)))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			return 0, 0
		}
		defer answer.Body.Close()
		var made struct{ ID int64 }
		_ = json.NewDecoder(answer.Body).Decode(&made) // of a refusal there is none
		return made.ID, answer.StatusCode
	}
	cache := redis.NewClient(&redis.Options{Addr: own.RedisAddr})
	defer cache.Close()
	cached := func(id int64) string { return cache.Get(t.Context(), fmt.Sprintf("order:%d", id)).Val() }
	var first int64
	if err := eventually(seenWithin, "the first order to be in the cache", func() bool {
		if first == 0 {
			first, _ = create("first")
		}
		return first != 0 && cached(first) != ""
	}); err != nil {
		t.Fatal(err)
	}

	own.KillRedis()
	last, status := create("last")
	if status != http.StatusCreated {
		t.Fatalf("an order without Redis: status %d", status)
	}
	harness.Eventually(t, seenWithin, "its event", func() error { return pendingIs(c, 1) })
	own.KillMySQL()
	if _, status := create("never"); status/100 == 2 {
		t.Errorf("an order without MySQL: status %d", status)
	}
	signalled := time.Now()
	if err := app.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := eventually(seenWithin, "its end", func() bool { return !app.Running() }); err != nil {
		t.Fatal(err)
	}
	took := time.Since(signalled)
	if code := app.Wait(t, time.Second); !slices.Contains([]int{client.ExitClean, client.ExitLeftovers}, code) || took > crowdGrace+exitTolerance {
		t.Errorf("exit code %d after %s", code, took)
	}
	if err := b.await("it to have left", seenWithin, func(all map[string]api.Instance) bool {
		for _, v := range all {
			if v.State != api.StateLeft {
				return false
			}
		}
		return len(all) == 1
	}); err != nil {
		t.Error(err)
	}
	own.StartMySQL()
	own.StartRedis()
	harness.Eventually(t, settleMax, "what it owed to be delivered", func() error { return pendingIs(c, 0) })
	var row struct{ Customer string }
	if err := json.Unmarshal([]byte(cached(last)), &row); err != nil || row.Customer != "Zoë" {
		t.Errorf("the cache holds %q of the last order", cached(last))
	}
}

func pendingIs(c *harness.Cluster, want int) error {
	var stats api.OutboxStats
	ctx, cancel := context.WithTimeout(context.Background(), seenWithin)
	defer cancel()
	answer, err := c.Caller().Do(ctx, harness.Request{Method: http.MethodGet, Path: "/v1/outbox/stats"})
	if err == nil {
		err = answer.Into(&stats)
	}
	if err == nil && stats.Pending != want {
		err = fmt.Errorf("%w: %d events are pending", errOther, stats.Pending)
	}
	return err
}
