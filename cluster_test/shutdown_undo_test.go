package cluster_test

import (
	"context"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client"
	"github.com/quiescehq/quiesce/cluster_test/harness"
)

// An operator stops an instance and thinks better of it when it refuses requests already: it serves again, and stops in order later. A drain that
// its platform wants is not undone.
func TestShutdown_UndoneDrainServesOn(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Options{Nodes: 1})
	b := watchInstances(t, c)
	v := &victim{phase: "reject", service: "undone"}
	v.declare(t, c)
	v.App, v.id = startApp(t, c, t.TempDir(), v.service, "undone", victimGrace, "QUIESCE_LAME_DUCK=200ms")
	holding, letGo := context.WithCancel(t.Context())
	defer letGo()
	if err := v.prepare(holding, c, b); err != nil {
		t.Fatal(err)
	}
	wish := func(what string, body any) error { return sayOf(c, v.id, what, body) }
	inReject := func(now api.Instance) bool { return now.Phase == v.phase }
	if err := wish("drain", api.DrainInstance{Intent: api.IntentRestart}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.awaitOne(v.id, "to refuse requests", seenWithin, inReject); err != nil {
		t.Fatal(err)
	}
	if status, err := postTo(t.Context(), v.Base+"/orders"); err != nil || status != http.StatusServiceUnavailable {
		t.Errorf("an instance that refuses requests answers %d, %v", status, err)
	}
	if err := wish("undo", api.InstanceWish{Reason: "thought better of it"}); err != nil {
		t.Fatal(err)
	}
	if err := eventually(seenWithin, "it to serve again", func() bool {
		status, err := postTo(t.Context(), v.Base+"/orders")
		return err == nil && status == http.StatusCreated
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.awaitOne(v.id, "to be ready again", seenWithin, inState(api.StateReady)); err != nil {
		t.Fatal(err)
	}

	if err := v.hold(holding); err != nil {
		t.Fatal(err)
	}
	if err := v.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if _, err := b.awaitOne(v.id, "to refuse requests", seenWithin, inReject); err != nil {
		t.Fatal(err)
	}
	if err := wish("undo", api.InstanceWish{}); err == nil || !strings.Contains(err.Error(), string(api.CodeNotUndoable)) {
		t.Errorf("the drain of a process that is signalled is undone: %v", err)
	}
	letGo()
	if code := v.Wait(t, victimGrace); code != client.ExitClean {
		t.Errorf("exit code %d", code)
	}
}
