package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/httpapi"
	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/mysql"
	"github.com/quiescehq/quiesce/outbox"
	"github.com/quiescehq/quiesce/reconcile"
	"github.com/quiescehq/quiesce/rediscache"
	"github.com/quiescehq/quiesce/replica"
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
	return api.Place{Reachable: true, Role: id.Role, Flavour: "redis " + id.Version}, true
}

// publicReason tells a class of failure and never a driver's text, which may hold addresses and accounts.
func publicReason(err error) string {
	for _, class := range []error{mysql.ErrUnreachable, mysql.ErrDenied, mysql.ErrNotPrimary, rediscache.ErrUnreachable, rediscache.ErrDenied, rediscache.ErrNotPrimary} {
		if errors.Is(err, class) {
			return class.Error()
		}
	}
	return "failed"
}

// mappings checks specifications against the sources of this node. It implements httpapi.Mappings.
type mappings struct {
	places  *places
	replica *replica.Replica
	rules   *compiledRules
}

// Check implements httpapi.Mappings: everything that can be known to be wrong is refused before the mapping is accepted.
func (m mappings) Check(ctx context.Context, name string, raw []byte) (httpapi.Checked, error) {
	var spec mapping.Spec
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&spec); err != nil {
		return httpapi.Checked{}, &httpapi.InvalidError{Faults: []api.Fault{{Field: "body", Reason: err.Error()}}}
	}
	if _, err := dec.Token(); err != io.EOF {
		return httpapi.Checked{}, &httpapi.InvalidError{Faults: []api.Fault{{Field: "body", Reason: "more than one JSON value"}}}
	}
	if err := spec.Validate(); err != nil {
		return httpapi.Checked{}, edgeError(err)
	}
	if err := m.checkVoters(spec); err != nil {
		return httpapi.Checked{}, err
	}
	checked, err := m.places.sources[spec.Source].Check(ctx, spec)
	if err != nil {
		return httpapi.Checked{}, edgeError(err)
	}
	columns, err := json.Marshal(checked.Columns)
	if err != nil {
		return httpapi.Checked{}, fmt.Errorf("columns of mapping %s: %w", name, err)
	}
	return httpapi.Checked{Source: spec.Source, Target: spec.Target, Table: spec.Table, Columns: columns}, nil
}

// checkVoters refuses a mapping whose source or target some node lacks: it would stop when that node leads.
func (m mappings) checkVoters(spec mapping.Spec) error {
	var faults []api.Fault
	if m.places.sources[spec.Source] == nil {
		faults = append(faults, api.Fault{Field: "source", Reason: "this node's configuration names no source " + spec.Source})
	}
	if m.places.targets[spec.Target] == nil {
		faults = append(faults, api.Fault{Field: "target", Reason: "this node's configuration names no target " + spec.Target})
	}
	m.replica.View(func(s *fsm.State) {
		s.Nodes(func(n fsm.Node) bool {
			if !has(n.Sources, spec.Source) {
				faults = append(faults, api.Fault{Field: "source", Reason: "node " + n.ID + " has no source " + spec.Source})
			}
			if !has(n.Targets, spec.Target) {
				faults = append(faults, api.Fault{Field: "target", Reason: "node " + n.ID + " has no target " + spec.Target})
			}
			return true
		})
	})
	if len(faults) > 0 {
		return &httpapi.InvalidError{Faults: faults}
	}
	return nil
}

func has(places []fsm.Place, name string) bool {
	for _, p := range places {
		if p.Name == name {
			return true
		}
	}
	return false
}

// Inspect implements httpapi.Mappings.
func (m mappings) Inspect(ctx context.Context, name string, raw []byte) (api.MappingCheck, error) {
	out := api.MappingCheck{OK: true, Findings: []api.Finding{}}
	_, err := m.Check(ctx, name, raw)
	var invalid *httpapi.InvalidError
	if !errors.As(err, &invalid) {
		return out, err
	}
	out.OK = false
	for _, f := range invalid.Faults {
		out.Findings = append(out.Findings, api.Finding{Level: "error", Field: f.Field, Reason: f.Reason})
	}
	return out, nil
}

// Keys implements httpapi.Mappings.
func (m mappings) Keys(ctx context.Context, record fsm.Mapping, e httpapi.RowKeys) ([]string, error) {
	keys := [][]json.RawMessage{e.Old, e.New}
	if len(e.New) == 0 {
		keys[1] = e.PK
	}
	var out []string
	for _, key := range keys {
		if len(key) == 0 {
			continue
		}
		canonical, err := m.Key(ctx, record, key)
		if err != nil {
			return nil, err
		}
		out = append(out, canonical)
	}
	return out, nil
}

// Key implements httpapi.Mappings.
func (m mappings) Key(_ context.Context, record fsm.Mapping, pk []json.RawMessage) (string, error) {
	rule, err := m.rules.compile(record)
	if err != nil {
		return "", err
	}
	parts, err := rule.PK(pk)
	if err != nil {
		return "", edgeError(err)
	}
	return mapping.EncodePK(parts), nil
}

// Look implements httpapi.Mappings.
func (m mappings) Look(ctx context.Context, record fsm.Mapping, key string) (api.KeyCheck, error) {
	rule, err := m.rules.compile(record)
	if err != nil {
		return api.KeyCheck{}, err
	}
	source, target := m.places.sources[record.Source], m.places.targets[record.Target]
	switch {
	case source == nil:
		return api.KeyCheck{}, fmt.Errorf("%w: this node's configuration names no source %s", httpapi.ErrSourceUnreachable, record.Source)
	case target == nil:
		return api.KeyCheck{}, fmt.Errorf("%w: this node's configuration names no target %s", httpapi.ErrTargetUnreachable, record.Target)
	}
	return look(ctx, rule, source, target, key)
}

// edgeError puts what mapping and mysql say into the edge's words.
func edgeError(err error) error {
	var invalid *mapping.InvalidError
	var pk *mapping.PKError
	switch {
	case errors.As(err, &invalid):
		out := &httpapi.InvalidError{}
		for _, f := range invalid.Faults {
			out.Faults = append(out.Faults, api.Fault{Field: f.Field, Reason: f.Reason})
		}
		return out
	case errors.As(err, &pk):
		return &httpapi.InvalidError{Faults: []api.Fault{{Field: "pk", Reason: pk.Error()}}}
	case errors.Is(err, mysql.ErrTableChanged):
		return &httpapi.InvalidError{Faults: []api.Fault{{Field: "table", Reason: "the source has no such table or column, or its account may not see it"}}}
	case errors.Is(err, mysql.ErrDenied):
		return &httpapi.InvalidError{Faults: []api.Fault{{Field: "table", Reason: "the source's account may not read it"}}}
	case errors.Is(err, mysql.ErrNotPrimary), errors.Is(err, mysql.ErrUnreachable):
		return fmt.Errorf("%w: %w", httpapi.ErrSourceUnreachable, err)
	}
	return err
}

// newRules makes an empty set.
func newRules() *compiledRules { return &compiledRules{rules: map[string]*mapping.Mapping{}} }

// compiledRules keeps the newest compiled form of each mapping, because compiling costs more than checking a key.
type compiledRules struct {
	mu    sync.Mutex
	rules map[string]*mapping.Mapping
}

func (c *compiledRules) compile(record fsm.Mapping) (*mapping.Mapping, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if have := c.rules[record.Name]; have != nil && have.Revision() == record.Revision {
		return have, nil
	}
	var spec mapping.Spec
	var columns []mapping.Column
	if err := errors.Join(json.Unmarshal(record.Spec, &spec), json.Unmarshal(record.Columns, &columns)); err != nil {
		return nil, fmt.Errorf("mapping %s: %w", record.Name, err)
	}
	rule, err := mapping.Compile(spec, record.Revision, columns)
	if err != nil {
		return nil, fmt.Errorf("mapping %s: %w", record.Name, err)
	}
	c.rules[record.Name] = rule
	return rule, nil
}

// outboxView is the delivery as the edge shows it.
type outboxView struct{ task *outbox.Task }

// Breakers implements httpapi.Outbox.
func (v outboxView) Breakers() []api.Breaker {
	out := []api.Breaker{}
	for _, b := range v.task.Stats().Breakers {
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
