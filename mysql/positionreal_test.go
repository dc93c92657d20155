package mysql_test

import "testing"

func TestPosition_OfARealServer(t *testing.T) {
	t.Parallel()
	s := newFixture(t).source
	first, err := s.Position(t.Context())
	if err != nil || first.Server == "" || first.Flavour == "" {
		t.Fatalf("%+v, %v", first, err)
	}
	later, err := s.Position(t.Context())
	if err != nil || later.Server != first.Server {
		t.Fatalf("%+v, %v", later, err)
	}
	holds, known, err := s.Holds(t.Context(), later, first)
	if err != nil || known != first.Logged || holds != first.Logged {
		t.Errorf("a server holds what it had: %v, known %v, %v; it writes a binlog: %v", holds, known, err, first.Logged)
	}
}
