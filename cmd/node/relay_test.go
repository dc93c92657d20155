package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/httpapi"
	"github.com/quiescehq/quiesce/relay"
)

func withOutbox(outbox string) string {
	return strings.Replace(good, `"u:p@tcp(127.0.0.1:3306)/shop"}}`, `"u:p@tcp(127.0.0.1:3306)/shop", outbox: `+outbox+`}}`, 1)
}

func TestConfig_OutboxAccountAndItsLongestTransaction(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		outbox string
		want   time.Duration
	}{
		{`{}`, 24 * time.Hour},
		{`{dsn: "o:p@tcp(127.0.0.1:3306)/shop"}`, 24 * time.Hour},
		{`{dsn: "o:p@tcp(127.0.0.1:3306)/shop", transaction_max: 2h}`, 2 * time.Hour},
		{`{dsn: "o:p@tcp(127.0.0.1:3306)/shop", transaction_max: 1s}`, 0},
		{`{dsn: "o:p@tcp(127.0.0.1:3306)/shop", transaction_max: 721h}`, 0},
	} {
		cfg, err := load([]string{"-config", writeFile(t, withOutbox(c.outbox))}, env(), new(bytes.Buffer))
		if c.want == 0 {
			if err == nil || !strings.Contains(err.Error(), "transaction_max") {
				t.Errorf("%s: %v", c.outbox, err)
			}
			continue
		}
		if err != nil || cfg.relay().TransactionMax != c.want {
			t.Errorf("%s: %v, %v; want %v", c.outbox, cfg.relay().TransactionMax, err, c.want)
		}
	}
}

func TestPlaces_RelayOnlyWhereThereIsAnAccount(t *testing.T) {
	t.Parallel()
	for outbox, want := range map[string]int{`{}`: 0, `{dsn: "o:p@tcp(127.0.0.1:1)/shop"}`: 1} {
		cfg, err := load([]string{"-config", writeFile(t, withOutbox(outbox))}, env(), new(bytes.Buffer))
		if err != nil {
			t.Fatal(err)
		}
		p, err := openPlaces(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(p.relayPlaces()); n != want {
			t.Errorf("%s: %d relays, want %d", outbox, n, want)
		}
		if err := p.close(); err != nil {
			t.Error(err)
		}
	}
}

// fixedKeys answers every row alike.
type fixedKeys struct {
	httpapi.Mappings
	err error
}

func (f fixedKeys) Keys(context.Context, fsm.Mapping, httpapi.RowKeys) ([]string, error) {
	return []string{`["1"]`}, f.err
}

// Only what is wrong with the row itself may set it aside.
func TestRowMapper_TellsARowsFaultFromOthers(t *testing.T) {
	t.Parallel()
	row := relay.Keys{PK: []json.RawMessage{[]byte(`"1"`)}}
	if keys, err := (rowMapper{fixedKeys{}}).Keys(t.Context(), fsm.Mapping{}, row); err != nil || len(keys) != 1 {
		t.Errorf("%v, %v", keys, err)
	}
	invalid := &httpapi.InvalidError{Faults: []api.Fault{{Field: "pk", Reason: "is no integer"}}}
	if _, err := (rowMapper{fixedKeys{err: invalid}}).Keys(t.Context(), fsm.Mapping{}, row); !errors.Is(err, relay.ErrKey) || !strings.Contains(err.Error(), "is no integer") {
		t.Errorf("a bad key: %v", err)
	}
	if _, err := (rowMapper{fixedKeys{err: httpapi.ErrSourceUnreachable}}).Keys(t.Context(), fsm.Mapping{}, row); err == nil || errors.Is(err, relay.ErrKey) {
		t.Errorf("not the row's fault: %v", err)
	}
}
