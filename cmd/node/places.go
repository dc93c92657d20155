package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/failover"
	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/httpapi"
	"github.com/quiescehq/quiesce/mysql"
	"github.com/quiescehq/quiesce/outbox"
	"github.com/quiescehq/quiesce/reconcile"
	"github.com/quiescehq/quiesce/rediscache"
)

// places are the sources and targets that this node's configuration names. They connect when they are used.
type places struct {
	sources  map[string]*mysql.Source
	readers  map[string]*mysql.TransactionReader // one for each source
	outboxes map[string]*mysql.OutboxSource      // of those that have an account for it
	targets  map[string]*rediscache.Target
	cfg      Config
}

func openPlaces(cfg Config) (*places, error) {
	p := &places{sources: map[string]*mysql.Source{}, readers: map[string]*mysql.TransactionReader{}, outboxes: map[string]*mysql.OutboxSource{}, targets: map[string]*rediscache.Target{}, cfg: cfg}
	for _, name := range sortedKeys(cfg.Sources) {
		source, err := mysql.Open(mysql.Config{Name: name, DSN: cfg.Sources[name].DSN})
		if err != nil {
			return p, err
		}
		p.sources[name] = source
		if p.readers[name], err = openReader(name, cfg.Sources[name]); err != nil {
			delete(p.readers, name)
			return p, err
		}
		if cfg.Sources[name].Outbox.DSN == "" {
			continue
		}
		if p.outboxes[name], err = openOutbox(name, cfg.Sources[name].Outbox); err != nil {
			delete(p.outboxes, name)
			return p, err
		}
	}
	for _, name := range sortedKeys(cfg.Targets) {
		target, err := rediscache.Open(cfg.Targets[name].redis(name))
		if err != nil {
			return p, err
		}
		p.targets[name] = target
	}
	return p, nil
}

func (p *places) close() error {
	var errs []error
	for _, s := range p.sources {
		errs = append(errs, s.Close())
	}
	for _, r := range p.readers {
		errs = append(errs, r.Close())
	}
	for _, o := range p.outboxes {
		errs = append(errs, o.Close())
	}
	for _, t := range p.targets {
		errs = append(errs, t.Close())
	}
	return errors.Join(errs...)
}

// Nodes publish where their places lead as a hash, without accounts, so that a node that means another server by the same name is seen.
func identity(where string) string {
	sum := sha256.Sum256([]byte(where))
	return hex.EncodeToString(sum[:8])
}

func (p *places) sourcePlaces() []fsm.Place {
	var out []fsm.Place
	for _, name := range sortedKeys(p.sources) {
		out = append(out, fsm.Place{Name: name, Identity: identity(p.sources[name].Where())})
	}
	return out
}

func (p *places) targetPlaces() []fsm.Place {
	var out []fsm.Place
	for _, name := range sortedKeys(p.targets) {
		out = append(out, fsm.Place{Name: name, Identity: identity(p.cfg.Targets[name].where())})
	}
	return out
}

func (p *places) outboxPlaces() outbox.Places {
	out := outbox.Places{Sources: map[string]outbox.Source{}, Targets: map[string]outbox.Target{}}
	for name, s := range p.sources {
		out.Sources[name] = s
	}
	for name, t := range p.targets {
		out.Targets[name] = outbox.Redis(t)
	}
	return out
}

func (p *places) reconcilePlaces() (map[string]reconcile.Source, map[string]reconcile.Target) {
	sources, targets := map[string]reconcile.Source{}, map[string]reconcile.Target{}
	for name, s := range p.sources {
		sources[name] = s
	}
	for name, t := range p.targets {
		targets[name] = t
	}
	return sources, targets
}

func (p *places) failoverPlaces() (map[string]failover.Target, map[string]failover.Source) {
	targets, sources := map[string]failover.Target{}, map[string]failover.Source{}
	for name, t := range p.targets {
		targets[name] = t
	}
	for name, s := range p.sources {
		sources[name] = s
	}
	return targets, sources
}

// Source tells how this node sees a source. It implements httpapi.Stores.
func (p *places) Source(ctx context.Context, name string) (api.Place, bool) {
	s, ok := p.sources[name]
	if !ok {
		return api.Place{}, false
	}
	id, err := s.Identity(ctx)
	if err != nil {
		return api.Place{Detail: publicReason(err)}, true
	}
	place := api.Place{Reachable: true, Role: "primary", Flavour: id.Flavour + " " + id.Version}
	if id.ReadOnly {
		place.Role = "read_only"
	}
	return place, true
}

// Target tells how this node sees a target. It implements httpapi.Stores.
func (p *places) Target(ctx context.Context, name string) (api.Place, bool) {
	t, ok := p.targets[name]
	if !ok {
		return api.Place{}, false
	}
	id, err := t.Identity(ctx)
	if err != nil {
		return api.Place{Detail: publicReason(err)}, true
	}
	place := api.Place{Reachable: true, Role: id.Role, Flavour: "redis " + id.Version}
	if err := t.Check(ctx); err != nil {
		place.Detail = publicReason(err)
	}
	return place, true
}

// publicReason tells a class of failure and never a driver's text, which may hold addresses and accounts.
func publicReason(err error) string {
	for _, class := range []error{mysql.ErrUnreachable, mysql.ErrDenied, mysql.ErrNotPrimary, rediscache.ErrUnreachable, rediscache.ErrDenied, rediscache.ErrNotPrimary,
		rediscache.ErrConfig} {
		if errors.Is(err, class) {
			return class.Error()
		}
	}
	return "failed"
}

// outboxView is the delivery as the edge shows it.
type outboxView struct{ task *outbox.Task }

// Breakers implements httpapi.Outbox.
func (v outboxView) Breakers() []api.Breaker {
	out := []api.Breaker{}
	for _, b := range v.task.Breakers() {
		name := b.Kind + ":" + b.Name
		if b.Table != "" {
			name += "/" + b.Table
		}
		out = append(out, api.Breaker{Name: name, State: strings.ReplaceAll(b.State, "-", "_")})
	}
	return out
}

// Delivery implements httpapi.Outbox.
func (v outboxView) Delivery(mapping string) httpapi.Delivery {
	share := v.task.Share(mapping)
	return httpapi.Delivery{Delivered: share.Delivered, Superseded: share.Superseded, Failed: share.Failed, Blocked: blockedWords[share.Blocked]}
}

// blockedWords puts the delivery's reasons into the edge's words.
var blockedWords = map[string]string{outbox.BlockedTargetMissing: api.BlockedTargetMissing, outbox.BlockedSourceMissing: api.BlockedSourceMissing,
	outbox.BlockedMappingBroken: api.BlockedMappingBroken, outbox.BlockedTargetDown: api.BlockedTargetDown, outbox.BlockedSourceDown: api.BlockedSourceDown}

// Sent implements httpapi.Outbox.
func (v outboxView) Sent(row fsm.RowRef) bool { return v.task.Claimed(row) }

// Timeline implements httpapi.Outbox.
func (v outboxView) Timeline(row fsm.RowRef) api.KeyTimeline {
	since, entries := v.task.Timeline(row)
	out := api.KeyTimeline{SinceMs: uint64(since.Milliseconds()), Entries: make([]api.KeyEntry, 0, len(entries))}
	for _, e := range entries {
		out.Entries = append(out.Entries, api.KeyEntry{AgeMs: uint64(e.Age.Milliseconds()), What: e.What, Token: e.Token, Detail: e.Detail})
	}
	return out
}
