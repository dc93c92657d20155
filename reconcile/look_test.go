package reconcile

import (
	"context"
	"testing"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/rediscache"
)

// script answers reads of row 1 with one name after the other; an empty name is a row that is gone.
type script struct {
	Source
	names []string
}

func (s *script) ReadRows(context.Context, *mapping.Mapping, [][]string) (map[string]*mapping.Row, error) {
	name := s.names[0]
	s.names = s.names[1:]
	if name == "" {
		return nil, nil
	}
	return map[string]*mapping.Row{`["1"]`: {Key: []string{"1"}, PK: []string{"1"}, Values: []mapping.Cell{{Bytes: []byte(name)}}}}, nil
}

// scripted answers every key with the same value.
type scripted struct{ Target }

func (scripted) Read(context.Context, []rediscache.KeyRequest) ([]mapping.Actual, error) {
	return []mapping.Actual{{Type: mapping.TypeString, Value: []byte(`{"name":"a"}`), TTLMillis: mapping.NoExpiry}}, nil
}

func lookAt(t *testing.T, s *suspect, settled uint64, names ...string) sandwich {
	t.Helper()
	log, acks, reads := newTestLog(), newMemory(), &script{names: names}
	for i := range 9 { // revision 9
		log.must(t, fsm.PutMapping{Name: "t", Spec: []byte{byte(i)}})
	}
	s.key, s.ref = []string{"1"}, fsm.RowRef{Mapping: "t", PK: `["1"]`}
	acks.settled[s.ref] = settled
	p := &pass{config: Default(), log: log, acks: acks, progress: &progress{}, mapping: compiled(t, nil), examiner: newExaminer(compiled(t, nil), false), source: reads, target: scripted{}}
	seen, err := p.reread(t.Context(), []*suspect{s})
	if err != nil {
		t.Fatal(err)
	}
	p.interrogate([]*suspect{s}, seen)
	return seen[0]
}

func TestReread_SandwichIsSteadyOnlyIfBothReadingsAgree(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		before, after string
		steady        bool
		verdict       mapping.Verdict
	}{
		{"a", "a", true, mapping.Equal},
		{"b", "b", true, mapping.Stale},
		{"b", "a", false, mapping.Equal},
		{"a", "b", false, mapping.Stale},
		{"", "b", false, mapping.Stale},
	} {
		v := lookAt(t, &suspect{}, 0, test.before, test.after)
		if v.steady != test.steady || v.look.verdict != test.verdict {
			t.Errorf("%q then %q: steady %v, %s", test.before, test.after, v.steady, v.look.verdict)
		}
	}
	if v := lookAt(t, &suspect{}, 0, "a", ""); v.row != nil {
		t.Error("a row that vanished is still there")
	}
}

func TestReread_AsksForDeliveriesSinceTheDifferenceWasOpened(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		suspect suspect
		settled uint64
		touched bool
	}{
		"not open, settled before this look":    {suspect{}, 9, false},
		"not open, settled since this look":     {suspect{}, 10, true},
		"open, settled before it was opened":    {suspect{open: true, since: 4}, 4, false},
		"open, settled between opening and now": {suspect{open: true, since: 4}, 5, true},
	} {
		if v := lookAt(t, &test.suspect, test.settled, "b", "b"); v.touched != test.touched || v.since != 9 {
			t.Errorf("%s: touched %v since %d", name, v.touched, v.since)
		}
	}
}
