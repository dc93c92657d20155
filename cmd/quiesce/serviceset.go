package main

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client"
)

// serviceFlags are what service set may be told. Only what is given changes anything.
type serviceFlags struct {
	maxUnavailable, minAvailable string
	replicas                     uint32
	settle, restartHold          time.Duration
	lostHold                     time.Duration
	dependsOn                    []string
	readOnly, freeze             bool
	cleanupTarget                string
	cleanupPatterns              []string
	cleanupDelay                 time.Duration
	noCleanup                    bool
}

func (c *cli) serviceSet() *cobra.Command {
	f := &serviceFlags{}
	cmd := &cobra.Command{
		Use:   "set NAME",
		Short: "Declare a service, or change of it what is given",
		Example: `  quiesce service set orders --max-unavailable 25% --settle 10s
  quiesce service set orders --min-available 2 --depends-on stock,payments
  quiesce service set orders --cleanup-target cache --cleanup-pattern 'orders:*' --cleanup-delay 10m`,
		Args: takes(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			changes, err := f.changes(cmd.Flags().Changed)
			if err != nil {
				return err
			}
			if len(changes) == 0 {
				return usage("what is to change? see quiesce service set --help")
			}
			return c.changeService(cmd.Context(), args[0], true, changes...)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.maxUnavailable, "max-unavailable", "", "so many may be out of service at a time: a number or a percentage, such as 25%")
	flags.StringVar(&f.minAvailable, "min-available", "", "so many must be in service and settled: a number or a percentage")
	flags.Uint32Var(&f.replicas, "replicas", 0, "what the percentages are of; 0: those that serve or are expected back")
	flags.DurationVar(&f.settle, "settle", 0, "how long one must have been ready before it counts as available")
	flags.DurationVar(&f.restartHold, "restart-hold", 0, "how long the place of one that left to restart is kept for its successor")
	flags.DurationVar(&f.lostHold, "lost-hold", 0, "the same for one that was lost")
	flags.StringSliceVar(&f.dependsOn, "depends-on", nil, "services that this one needs; \"\" for none")
	flags.BoolVar(&f.readOnly, "read-only", false, "instances refuse writes and serve reads")
	flags.BoolVar(&f.freeze, "freeze", false, "no drain is granted, but overdrafts")
	flags.StringVar(&f.cleanupTarget, "cleanup-target", "", "where the cache keys are that go with the last instance")
	flags.StringArrayVar(&f.cleanupPatterns, "cleanup-pattern", nil, "which keys, as in Redis SCAN MATCH; may be given more than once")
	flags.DurationVar(&f.cleanupDelay, "cleanup-delay", 0, "how long after the last instance has left")
	flags.BoolVar(&f.noCleanup, "no-cleanup", false, "leave the cache keys when the last instance has left")
	return cmd
}

// changes are one function for each thing that was given.
func (f *serviceFlags) changes(given func(string) bool) ([]func(*api.PutService), error) {
	var changes []func(*api.PutService)
	add := func(flag string, change func(*api.PutService)) {
		if given(flag) {
			changes = append(changes, change)
		}
	}
	budgets, err := f.budget(given)
	if err != nil {
		return nil, err
	}
	changes = append(changes, budgets...)
	add("replicas", func(s *api.PutService) { s.Replicas = f.replicas })
	add("settle", func(s *api.PutService) { s.SettleMs = millisOf(f.settle) })
	add("restart-hold", func(s *api.PutService) { s.RestartHoldMs = millisOf(f.restartHold) })
	add("lost-hold", func(s *api.PutService) { s.LostHoldMs = millisOf(f.lostHold) })
	add("depends-on", func(s *api.PutService) { s.DependsOn = f.dependsOn })
	add("read-only", func(s *api.PutService) { s.ReadOnly = &f.readOnly })
	add("freeze", func(s *api.PutService) { s.Freeze = &f.freeze })
	add("no-cleanup", func(s *api.PutService) { s.Cleanup = nil })
	cleaning := given("cleanup-target") || given("cleanup-pattern") || given("cleanup-delay")
	if cleaning && f.noCleanup {
		return nil, usage("--no-cleanup and the other cleanup flags exclude each other")
	}
	if cleaning {
		changes = append(changes, func(s *api.PutService) { f.cleanup(s, given) })
	}
	for _, d := range []time.Duration{f.settle, f.restartHold, f.lostHold, f.cleanupDelay} {
		if d < 0 {
			return nil, usage("a time below nothing: %s", d)
		}
	}
	return changes, nil
}

// budget replaces the budget that the service had, for it has only one.
func (f *serviceFlags) budget(given func(string) bool) ([]func(*api.PutService), error) {
	switch {
	case given("max-unavailable") && given("min-available"):
		return nil, usage("--max-unavailable and --min-available exclude each other: a service has one budget")
	case given("max-unavailable"):
		count, percent, err := share("max-unavailable", f.maxUnavailable)
		return []func(*api.PutService){func(s *api.PutService) {
			s.MaxUnavailable, s.MaxUnavailablePercent, s.MinAvailable, s.MinAvailablePercent = count, percent, 0, 0
		}}, err
	case given("min-available"):
		count, percent, err := share("min-available", f.minAvailable)
		return []func(*api.PutService){func(s *api.PutService) {
			s.MaxUnavailable, s.MaxUnavailablePercent, s.MinAvailable, s.MinAvailablePercent = 0, 0, count, percent
		}}, err
	}
	return nil, nil
}

func (f *serviceFlags) cleanup(s *api.PutService, given func(string) bool) {
	cleanup := api.ServiceCleanup{}
	if s.Cleanup != nil {
		cleanup = *s.Cleanup
	}
	if given("cleanup-target") {
		cleanup.Target = f.cleanupTarget
	}
	if given("cleanup-pattern") {
		cleanup.Patterns = f.cleanupPatterns
	}
	if given("cleanup-delay") {
		cleanup.DelayMs = millis(f.cleanupDelay)
	}
	s.Cleanup = &cleanup
}

// share reads a number of instances or a part of all.
func share(flag, text string) (count, percent uint32, err error) {
	digits, isPercent := strings.CutSuffix(text, "%")
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || n == 0 || isPercent && n > 100 {
		return 0, 0, usage("--%s is a number from 1, or a percentage up to 100%%, not %q", flag, text)
	}
	if isPercent {
		return 0, uint32(n), nil
	}
	return uint32(n), 0, nil
}

func millisOf(d time.Duration) *uint64 {
	ms := millis(d)
	return &ms
}

// changeTries is how often a change is made anew that somebody else was faster with.
const changeTries = 2

// changeService reads a service, changes it, and writes it back if nobody else has meanwhile. Create makes one that is not there.
func (c *cli) changeService(ctx context.Context, name string, create bool, changes ...func(*api.PutService)) error {
	var written api.ServiceVersion
	var err error
	for range changeTries {
		var now api.Service
		err = c.call(ctx, http.MethodGet, servicePath(name), nil, &now)
		if create && refusedWith(err, api.CodeServiceNotFound) {
			now, err = api.Service{}, nil
		}
		if err != nil {
			return err
		}
		next := rulesOf(now)
		for _, change := range changes {
			change(&next)
		}
		err = c.putIfMatch(ctx, servicePath(name), now.Version, next, &written)
		if !errors.Is(err, client.ErrVersionMismatch) {
			break
		}
	}
	if err != nil {
		return err
	}
	return c.showService(ctx, name)
}

// rulesOf is what to put so that the service stays as it is. Its switches stay by being absent.
func rulesOf(s api.Service) api.PutService {
	rules := api.PutService{Replicas: s.Replicas, MaxUnavailable: s.MaxUnavailable, MaxUnavailablePercent: s.MaxUnavailablePercent,
		MinAvailable: s.MinAvailable, MinAvailablePercent: s.MinAvailablePercent, DependsOn: s.DependsOn, Cleanup: s.Cleanup}
	if s.Version > 0 { // else the times are the cluster's to choose
		rules.SettleMs, rules.RestartHoldMs, rules.LostHoldMs = &s.SettleMs, &s.RestartHoldMs, &s.LostHoldMs
	}
	return rules
}

func refusedWith(err error, code api.Code) bool {
	var refused *client.Error
	return errors.As(err, &refused) && refused.Code == code
}

// putIfMatch writes what has the version that was seen; 0: whatever is there.
func (c *cli) putIfMatch(ctx context.Context, path string, version uint64, body, answer any) error {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	cl, err := c.clientOver(&http.Client{Transport: ifMatch{transport, version}})
	if err != nil {
		return err
	}
	defer transport.CloseIdleConnections()
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, 2*c.timeout)
	defer cancel()
	return cl.Call(ctx, http.MethodPut, path, body, answer)
}

// ifMatch makes requests conditional.
type ifMatch struct {
	http.RoundTripper
	version uint64
}

func (t ifMatch) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.version > 0 {
		r = r.Clone(r.Context())
		r.Header.Set(api.HeaderIfMatch, strconv.Quote(strconv.FormatUint(t.version, 10)))
	}
	return t.RoundTripper.RoundTrip(r)
}
