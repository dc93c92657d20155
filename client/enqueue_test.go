package client

import (
	"encoding/json"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client/quiescetest"
)

func TestEnqueue_ManyRowsGoInFullRequests(t *testing.T) {
	t.Parallel()
	coordinator, addr := quiescetest.Start(t)
	coordinator.PutMapping("orders")
	c := newClient(t, addr)
	pks := make([]any, 2*api.EventsMax+1)
	for i := range pks {
		pks[i] = i
	}
	tokens, err := c.Enqueue(within(t, 20*time.Second), "orders", pks...)
	if err != nil || len(tokens) != len(pks) {
		t.Fatalf("%d tokens, %v", len(tokens), err)
	}
	for i, e := range coordinator.Events() {
		if e.PK != strconv.Itoa(i) || e.Token != tokens[i].Token {
			t.Fatalf("event %d is %+v, its token was told as %d", i, e, tokens[i].Token)
		}
	}
	if n := len(coordinator.Requests("/v1/outbox/events")); n != 3 {
		t.Errorf("%d requests for %d events", n, len(pks))
	}
}

func TestEnqueue_ConcurrentCallsShareARequest(t *testing.T) {
	t.Parallel()
	coordinator, addr := quiescetest.Start(t)
	coordinator.PutMapping("orders")
	c := newClient(t, addr)
	const callers = 100
	mappings := make([]string, callers)
	for i := range mappings {
		mappings[i] = "orders"
	}
	enqueueTogether(t, coordinator, c, mappings, func(_ string, err error) {
		if err != nil {
			t.Error(err)
		}
	})
	if n := len(coordinator.Requests("/v1/outbox/events")); n != 2 {
		t.Errorf("%d requests, want the one in flight and one for all who came meanwhile", n)
	}
	if n := len(coordinator.Events()); n != callers {
		t.Errorf("%d events of %d callers", n, callers)
	}
}

// enqueueTogether makes the first call hang at the coordinator, lets the others come meanwhile, and then lets go.
func enqueueTogether(t *testing.T, coordinator *quiescetest.Coordinator, c *Client, mappings []string, check func(mapping string, err error)) {
	t.Helper()
	coordinator.Hang()
	var wait sync.WaitGroup
	call := func(i int) {
		wait.Go(func() {
			_, err := c.Enqueue(within(t, 20*time.Second), mappings[i], i)
			check(mappings[i], err)
		})
	}
	call(0)
	eventually(t, "the first call is on its way", func() bool { return len(coordinator.Requests("")) == 1 })
	for i := 1; i < len(mappings); i++ {
		call(i)
	}
	eventually(t, "the others wait", func() bool {
		c.outbox.mu.Lock()
		defer c.outbox.mu.Unlock()
		return c.outbox.events == len(mappings)-1
	})
	coordinator.Resume()
	wait.Wait()
}

func TestEnqueue_OneCallersMistakeIsNotTheOthers(t *testing.T) {
	t.Parallel()
	coordinator, addr := quiescetest.Start(t)
	coordinator.PutMapping("orders")
	c := newClient(t, addr)
	enqueueTogether(t, coordinator, c, []string{"orders", "orders", "nowhere", "orders"}, func(mapping string, err error) {
		if (mapping == "nowhere") != errors.Is(err, ErrMappingNotFound) {
			t.Errorf("%s: %v", mapping, err)
		}
	})
	if n := len(coordinator.Events()); n != 3 {
		t.Errorf("%d events, want 3", n)
	}
}

func TestEnqueue_KeysAreExactText(t *testing.T) {
	t.Parallel()
	type id uint64
	for _, tc := range []struct {
		pk   any
		want string
	}{
		{42, `["42"]`},
		{int64(-9223372036854775808), `["-9223372036854775808"]`},
		{uint64(18446744073709551615), `["18446744073709551615"]`},
		{id(7), `["7"]`},
		{"a\"b", `["a\"b"]`},
		{[]any{1, "x"}, `["1","x"]`},
		{[]int{1, 2}, `["1","2"]`},
	} {
		parts, err := encodePK(tc.pk)
		got, _ := json.Marshal(parts)
		if err != nil || string(got) != tc.want {
			t.Errorf("%v: %s, %v; want %s", tc.pk, got, err, tc.want)
		}
	}
	for _, pk := range []any{nil, 1.5, true, []any{}, []any{nil}, map[string]int{}, make([]int, api.PKPartsMax+1)} {
		if _, err := encodePK(pk); !errors.Is(err, ErrPK) {
			t.Errorf("%v: got %v", pk, err)
		}
	}
}

func TestEnqueue_AfterCloseIsRefused(t *testing.T) {
	t.Parallel()
	_, addr := quiescetest.Start(t)
	c := newClient(t, addr)
	c.Close()
	if _, err := c.Enqueue(t.Context(), "orders", 1); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
}
