package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/httpapi"
	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/mysql"
	"github.com/quiescehq/quiesce/replica"
)

// mappings checks specifications against the sources of this node. It implements httpapi.Mappings.
type mappings struct {
	places  *places
	replica *replica.Replica
	rules   *compiledRules
}

// Check implements httpapi.Mappings: everything that can be known to be wrong is refused before the mapping is accepted.
func (m mappings) Check(ctx context.Context, name string, raw []byte) (httpapi.Checked, error) {
	spec, err := decodeSpec(raw)
	if err != nil {
		return httpapi.Checked{}, err
	}
	found, err := m.inspect(ctx, name, spec)
	if err != nil {
		return httpapi.Checked{}, err
	}
	if err := found.Fault(); err != nil {
		return httpapi.Checked{}, edgeError(err)
	}
	columns, err := json.Marshal(found.Columns)
	if err != nil {
		return httpapi.Checked{}, fmt.Errorf("columns of mapping %s: %w", name, err)
	}
	return httpapi.Checked{Source: spec.Source, Target: spec.Target, Table: spec.Table, Columns: columns}, nil
}

func decodeSpec(raw []byte) (mapping.Spec, error) {
	var spec mapping.Spec
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&spec); err != nil {
		return spec, &httpapi.InvalidError{Faults: []api.Fault{{Field: "body", Reason: err.Error()}}}
	}
	if _, err := dec.Token(); err != io.EOF {
		return spec, &httpapi.InvalidError{Faults: []api.Fault{{Field: "body", Reason: "more than one JSON value"}}}
	}
	return spec, nil
}

// inspect asks the source, and then everything around it. Faults of the places come alone: without them there is nobody to ask.
func (m mappings) inspect(ctx context.Context, name string, spec mapping.Spec) (*mysql.Inspection, error) {
	if err := spec.Validate(); err != nil {
		return nil, edgeError(err)
	}
	if err := m.checkVoters(spec); err != nil {
		return nil, err
	}
	found, err := m.places.sources[spec.Source].Inspect(ctx, spec)
	if err != nil {
		return nil, edgeError(err)
	}
	if found.Mapping != nil {
		m.inspectNeighbours(name, found)
	}
	found.Findings = append(found.Findings, keyLengthFindings(spec, found.Columns)...)
	id, err := m.places.targets[spec.Target].Identity(ctx)
	found.Findings = append(found.Findings, evictionFindings(spec, id.MaxMemoryPolicy, err)...)
	return found, nil
}

// inspectNeighbours compares the keys with those of the target's other mappings. One that does not compile here is passed over: its events stay where they are.
func (m mappings) inspectNeighbours(name string, found *mysql.Inspection) {
	var others []fsm.Mapping
	m.replica.View(func(s *fsm.State) {
		s.Mappings("", func(other fsm.Mapping) bool {
			if other.Name != name && other.Target == found.Mapping.Spec().Target {
				others = append(others, other)
			}
			return true
		})
	})
	for _, other := range others {
		rule, err := m.rules.compile(other)
		if err != nil {
			continue
		}
		if reason := mapping.Overlap(found.Mapping, rule); reason != "" {
			found.Findings = append(found.Findings, mysql.Finding{Level: mysql.LevelError, Field: "key", Reason: "mapping " + other.Name + " of the same target: " + reason})
		}
	}
}

// keyLengthFindings judges whether the log can hold every key: a row whose key is longer cannot be announced, and a pass cannot stop at it. In text a character may take four bytes.
func keyLengthFindings(spec mapping.Spec, columns []mapping.Column) (out []mysql.Finding) {
	longest := func(names []string) (characters, bytes int) {
		bytes = len("[") // and of each part its quotes, and what follows it
		for _, c := range columns {
			switch {
			case !slices.Contains(names, c.Name):
			case c.Kind == mapping.KindText:
				characters, bytes = characters+c.Length, bytes+4*c.Length+len(`"",`)
			case c.Kind == mapping.KindBinary: // in hexadecimal digits
				characters, bytes = characters+2*c.Length, bytes+2*c.Length+len(`"",`)
			}
		}
		return characters, bytes
	}
	judge := func(field string, names []string, effect string) {
		characters, bytes := longest(names)
		level := mysql.LevelNote
		if characters > fsm.PKBytesMax {
			level = mysql.LevelWarning
		}
		if bytes > fsm.PKBytesMax {
			out = append(out, mysql.Finding{Level: level, Field: field, Reason: fmt.Sprintf("%s may be as long as %d bytes: %s of more than %d", strings.Join(names, ", "), bytes, effect, fsm.PKBytesMax)})
		}
	}
	judge("primary_key", spec.PrimaryKey, "a pass ends at a key")
	keys := spec.KeyColumns
	if len(keys) == 0 {
		keys = spec.PrimaryKey
	}
	judge("key_columns", keys, "no event is accepted for a key")
	return out
}

// evictionFindings judges a target's maxmemory-policy. Guards are small, have a TTL and are seldom used: a policy that takes such keys first takes them while their values stay, and an old write passes.
func evictionFindings(spec mapping.Spec, policy string, err error) []mysql.Finding {
	level, reason := mysql.LevelNote, ""
	switch writes := spec.Mode != mapping.Invalidate; {
	case err != nil:
		level, reason = mysql.LevelWarning, "cannot be asked for its eviction policy: "+publicReason(err)
	case !writes || policy == "noeviction":
		return nil
	case policy == "volatile-ttl" || strings.HasSuffix(policy, "-random"):
		level, reason = mysql.LevelError, "has maxmemory-policy "+policy+", which may evict guards before their values; mode invalidate does without"
	case strings.HasSuffix(policy, "-lru") || strings.HasSuffix(policy, "-lfu"):
		level, reason = mysql.LevelWarning, "has maxmemory-policy "+policy+": under pressure guards may go before their values; noeviction is safe"
	default:
		level, reason = mysql.LevelWarning, "does not tell its maxmemory-policy"
	}
	return []mysql.Finding{{Level: level, Field: "target", Reason: reason}}
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
	spec, err := decodeSpec(raw)
	var found *mysql.Inspection
	if err == nil {
		found, err = m.inspect(ctx, name, spec)
	}
	var invalid *httpapi.InvalidError
	switch {
	case errors.As(err, &invalid):
		out := api.MappingCheck{Findings: []api.Finding{}}
		for _, f := range invalid.Faults {
			out.Findings = append(out.Findings, api.Finding{Level: string(mysql.LevelError), Field: f.Field, Reason: f.Reason})
		}
		return out, nil
	case err != nil:
		return api.MappingCheck{}, err
	}
	return shownCheck(found)
}

func shownCheck(found *mysql.Inspection) (api.MappingCheck, error) {
	out := api.MappingCheck{OK: found.Fault() == nil, Findings: make([]api.Finding, 0, len(found.Findings)), Explain: found.Explain}
	for _, f := range found.Findings {
		out.Findings = append(out.Findings, api.Finding{Level: string(f.Level), Field: f.Field, Reason: f.Reason})
	}
	var err error
	if out.Source, err = json.Marshal(found.Server); err != nil {
		return out, fmt.Errorf("identity of source: %w", err)
	}
	if found.Mapping != nil && found.Sample != nil && found.Sample.Key != nil {
		out.Sample = shownSample(found.Mapping, found.Sample)
	}
	return out, nil
}

const sampleBytesMax = 4 << 10

func shownSample(rule *mapping.Mapping, row *mapping.Row) *api.MappingSample {
	sample := &api.MappingSample{PK: row.PK, Keys: rule.Keys(row.Key)}
	writes, err := rule.AppendWrites(nil, row.Key, row, 0)
	if err != nil {
		return sample // a finding says why
	}
	if w := writes[0]; w.Op != mapping.OpDel && w.Op != mapping.OpDelFields {
		sample.Value, sample.TTLMs = clipTo(shownValue(w.Value, w.Fields), sampleBytesMax), w.TTLMillis
	}
	return sample
}

// Keys implements httpapi.Mappings. Keys that are made of the primary key are named by pk; all others by what the key columns were and are, for the row may be another by the time it is read.
func (m mappings) Keys(_ context.Context, record fsm.Mapping, e httpapi.RowKeys) ([]string, error) {
	rule, err := m.rules.compile(record)
	if err != nil {
		return nil, err
	}
	now := namedKey{"new_key", e.New}
	if rule.KeyIsPrimary() && len(e.New) == 0 {
		now = namedKey{"pk", e.PK}
	}
	if len(e.Old) == 0 && len(now.raw) == 0 {
		return nil, &httpapi.InvalidError{Faults: []api.Fault{{Field: now.field, Reason: "is needed: the mapping's key columns are " + columnNames(rule.KeyColumns())}}}
	}
	var out []string
	for _, key := range []namedKey{{"old_key", e.Old}, now} {
		canonical, err := key.canonical(rule)
		if err != nil {
			return nil, err
		}
		if canonical != "" && !slices.Contains(out, canonical) {
			out = append(out, canonical)
		}
	}
	return out, nil
}

// namedKey is a key as an event gives it, under the field that it came in.
type namedKey struct {
	field string
	raw   []json.RawMessage
}

// canonical is empty for a key that is not there or has a NULL.
func (k namedKey) canonical(rule *mapping.Mapping) (string, error) {
	if len(k.raw) == 0 {
		return "", nil
	}
	tuple, err := rule.Tuple(k.raw)
	switch {
	case err != nil:
		return "", edgeErrorOf(k.field, err)
	case tuple == nil:
		return "", nil
	}
	return mapping.EncodeKey(tuple), nil
}

func columnNames(columns []mapping.Column) string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.Name
	}
	return strings.Join(names, ", ")
}

// Key implements httpapi.Mappings.
func (m mappings) Key(_ context.Context, record fsm.Mapping, key []json.RawMessage) (string, error) {
	rule, err := m.rules.compile(record)
	if err != nil {
		return "", err
	}
	return namedKey{"pk", key}.canonical(rule)
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
func edgeError(err error) error { return edgeErrorOf("pk", err) }

// edgeErrorOf is edgeError for a key that came in the given field.
func edgeErrorOf(field string, err error) error {
	var invalid *mapping.InvalidError
	var key *mapping.KeyError
	switch {
	case errors.As(err, &invalid):
		out := &httpapi.InvalidError{}
		for _, f := range invalid.Faults {
			out.Faults = append(out.Faults, api.Fault{Field: f.Field, Reason: f.Reason})
		}
		return out
	case errors.As(err, &key):
		return &httpapi.InvalidError{Faults: []api.Fault{{Field: field, Reason: key.Error()}}}
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
