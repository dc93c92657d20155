package client

import (
	"testing"
	"time"

	"github.com/quiescehq/quiesce/client/quiescetest"
)

func TestDeclareMapping_AgainKeepsTheRevision(t *testing.T) {
	t.Parallel()
	_, addr := quiescetest.Start(t)
	ctx := within(t, 10*time.Second)
	spec := map[string]any{"table": "orders", "key": "order:{id}"}
	first, err := newClient(t, addr).DeclareMapping(ctx, "orders", spec)
	if err != nil {
		t.Fatal(err)
	}
	again, err := newClient(t, addr).DeclareMapping(ctx, "orders", spec)
	if err != nil || again != first {
		t.Errorf("declared again: revision %d, %v; want %d", again, err, first)
	}
	spec["key"] = "o:{id}"
	changed, err := newClient(t, addr).DeclareMapping(ctx, "orders", spec)
	if err != nil || changed <= first {
		t.Errorf("changed: revision %d after %d, %v", changed, first, err)
	}
}
