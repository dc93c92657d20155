package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client/quiescetest"
)

// drainsAsked lists what an instance asked for.
func drainsAsked(t *testing.T, coordinator *quiescetest.Coordinator, id string) []api.DrainInstance {
	t.Helper()
	var all []api.DrainInstance
	for _, r := range coordinator.Requests("/v1/instances/" + id + "/drain") {
		var body api.DrainInstance
		must(t, json.Unmarshal(r.Body, &body))
		all = append(all, body)
	}
	return all
}

func TestJoin_TellsTheCoordinatorHowTheInstanceStops(t *testing.T) {
	t.Parallel()
	coordinator, addr := start(t)
	labels := map[string]string{"zone": "b"}
	join(t, addr, Grace(GraceDefault), LameDuck(2*time.Second), Platform(api.PlatformKubernetes), Labels(labels), Address("10.0.0.1:80"))
	v := coordinator.Status(coordinator.Instances()[0].ID)
	if v.GraceMs != 25_000 || v.Platform != "kubernetes" || !maps.Equal(v.Labels, labels) || v.Address != "10.0.0.1:80" {
		t.Errorf("%+v", v)
	}
	want := "[{lameduck 2000} {reject 8000} {consumers 1000} {transactions 3000} {flush 4000} {locks 1000} {close 2000} {leave 1000}]"
	if got := fmt.Sprint(v.Phases); got != want {
		t.Errorf("phases %s", got)
	}
}

func TestRun_TellsWhenThePlatformKills(t *testing.T) {
	t.Parallel()
	signals := make(quiescetest.Signals, 2)
	coordinator, app, id, code := readyApp(t, Signals(signals), LameDuck(1))
	signals.SendSIGTERM()
	if got := exitCode(t, code); got != ExitClean {
		t.Errorf("exit code %d", got)
	}
	grace := uint64(app.options.grace.Milliseconds())
	if asked := drainsAsked(t, coordinator, id); len(asked) != 1 || asked[0].KillInMs > grace || asked[0].KillInMs < grace-2_000 {
		t.Errorf("asked %+v", asked)
	}
}

// The budget has no room. A drain that nobody hurries waits; as soon as the platform signals, it is asked for again and does not wait for
// ever.
func TestRun_SignalHurriesADrainThatWaits(t *testing.T) {
	t.Parallel()
	signals := make(quiescetest.Signals, 2)
	coordinator, app, id, code := readyApp(t, Signals(signals), Grace(4*time.Second), LameDuck(1))
	other := join(t, app.options.config.Addrs[0], Name("other"))
	run(other)
	eventually(t, "both ready", func() bool { return coordinator.Instances()[1].State == api.StateReady })
	must(t, coordinator.Pause(coordinator.Instances()[1].ID))
	asked := make(chan error, 1)
	go func() { asked <- app.Drain(within(t, 20*time.Second), "") }()
	eventually(t, "queued", func() bool { return coordinator.Status(id).State == api.StateQueued })
	<-time.After(time.Second) // longer than it would wait if it were hurried
	if v := coordinator.Status(id); v.State != api.StateQueued || !app.serving() {
		t.Fatalf("did not wait: %s", v.State)
	}
	signals.SendSIGTERM()
	if got := exitCode(t, code); got != ExitClean {
		t.Errorf("exit code %d", got)
	}
	if err := <-asked; err != nil {
		t.Errorf("Drain returns %v", err)
	}
	if v := coordinator.Status(id); v.State != api.StateLeft || !v.Overdraft {
		t.Errorf("%+v", v)
	}
	if all := drainsAsked(t, coordinator, id); len(all) != 2 || all[0].KillInMs != 0 || all[1].KillInMs == 0 {
		t.Errorf("asked %+v", all)
	}
}

func TestDrain_RefusesAnIntentThatIsNone(t *testing.T) {
	t.Parallel()
	app, _ := joinAlone(t)
	if err := app.Drain(t.Context(), "lunch"); !errors.Is(err, ErrConfig) {
		t.Errorf("got %v", err)
	}
}

func TestRun_KubernetesDoesNotWaitForRoom(t *testing.T) {
	t.Parallel()
	signals := make(quiescetest.Signals, 2)
	coordinator, app, id, code := readyApp(t, Signals(signals), Platform(api.PlatformKubernetes), LameDuck(1))
	other := join(t, app.options.config.Addrs[0], Name("other"))
	run(other)
	eventually(t, "both ready", func() bool { return coordinator.Instances()[1].State == api.StateReady })
	must(t, coordinator.Pause(coordinator.Instances()[1].ID))
	began := time.Now()
	signals.SendSIGTERM()
	if got := exitCode(t, code); got != ExitClean || !coordinator.Status(id).Overdraft {
		t.Errorf("exit code %d, %+v", got, coordinator.Status(id))
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestOptions_EveryVariableIsReadAndABadOneNamed(t *testing.T) {
	for _, v := range []string{EnvAddrs, EnvInstance, EnvGrace, EnvLameDuck, EnvLeaseTTL, EnvPlatform, EnvIntent, envKubernetes} {
		t.Setenv(v, "")
	}
	read := func(opts ...Option) (options, error) { return collect(append(opts, FromEnv())) }
	for _, tc := range []struct {
		name, value string
		has         func(o options) bool
	}{
		{EnvLameDuck, "2s", func(o options) bool { return o.lameDuck == 2*time.Second }},
		{EnvLeaseTTL, "20s", func(o options) bool { return o.leaseTTL == 20*time.Second }},
		{EnvIntent, "remove", func(o options) bool { return o.intent == Remove }},
		{EnvPlatform, "kubernetes", func(o options) bool { return o.platform == api.PlatformKubernetes }},
		{envKubernetes, "10.0.0.1", func(o options) bool { return o.platform == api.PlatformKubernetes }},
	} {
		t.Setenv(tc.name, tc.value)
		if o, err := read(); err != nil || !tc.has(o) {
			t.Errorf("%s=%s: %+v, %v", tc.name, tc.value, o, err)
		}
		if tc.name != envKubernetes {
			t.Setenv(tc.name, "nonsense")
			if _, err := read(); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), tc.name) {
				t.Errorf("%s: %v", tc.name, err)
			}
		}
		t.Setenv(tc.name, "")
	}
	t.Setenv(EnvLeaseTTL, "-1s")
	if _, err := read(); !errors.Is(err, ErrConfig) {
		t.Errorf("a negative time: %v", err)
	}
	t.Setenv(EnvLeaseTTL, "")
	t.Setenv(envKubernetes, "10.0.0.1")
	if o, err := read(Platform("")); err != nil || o.platform != "" {
		t.Errorf("what the program says loses against a guess: %q, %v", o.platform, err)
	}
	t.Setenv(EnvPlatform, "none")
	if o, err := read(); err != nil || o.platform != "" {
		t.Errorf("what the environment says loses against a guess: %q, %v", o.platform, err)
	}
}

func TestOptions_WhatTheCoordinatorWouldRefuseIsRefusedHere(t *testing.T) {
	t.Parallel()
	many := map[string]string{}
	for i := range api.LabelsMax + 1 {
		many[fmt.Sprint(i)] = ""
	}
	long := strings.Repeat("x", 300)
	for name, opt := range map[string]Option{
		"no name": Name(""), "a long name": Name(long), "a long address": Address(long), "many labels": Labels(many),
		"a label without a key": Labels(map[string]string{"": "x"}), "a long value": Labels(map[string]string{"x": long}),
		"a short lease": LeaseTTL(time.Millisecond), "a platform": Platform("mainframe"), "time that runs back": LameDuck(-1),
	} {
		if _, err := collect([]Option{opt}); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
