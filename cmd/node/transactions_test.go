package main

import (
	"bytes"
	"errors"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quiescehq/quiesce/drain"
	"github.com/quiescehq/quiesce/httpapi"
)

func sourced(watch string) string {
	return strings.Replace(good, `{dsn: "u:p@tcp(127.0.0.1:3306)/shop"}`, `{dsn: "u:p@tcp(127.0.0.1:3306)/shop", watch: {`+watch+`}}`, 1)
}

func TestConfig_WatchHasDefaultsAndTakesWhatIsSaid(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]drain.Watch{
		"":                           {Threshold: time.Minute, Every: time.Second, Kill: drain.KillOwned},
		"threshold: 5m, kill: never": {Threshold: 5 * time.Minute, Every: time.Second, Kill: drain.KillNever},
		"every: 250ms, kill: all, kill_users: [batch], dsn: 'w:p@tcp(127.0.0.1:3306)/'": {Threshold: time.Minute, Every: 250 * time.Millisecond, Kill: drain.KillAll, KillUsers: []string{"batch"}},
	} {
		c, err := load([]string{"-config", writeFile(t, sourced(text)), "-outage-max", "2h"}, env(), new(bytes.Buffer))
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Sources["main"].Watch.drain(); !reflect.DeepEqual(got, want) || c.drain().OutageMax != 2*time.Hour {
			t.Errorf("%s: %+v, want %+v", text, got, want)
		}
		p, err := openPlaces(c)
		if err != nil || len(p.readers) != 1 {
			t.Errorf("%s: %v", text, err)
		}
		sources, targets := p.drainPlaces()
		if len(sources) != 1 || len(targets) != 1 {
			t.Errorf("%d sources, %d targets", len(sources), len(targets))
		}
		if err := p.close(); err != nil {
			t.Error(err)
		}
	}
}

func TestConfig_RefusesAWatchThatCannotWorkWithoutQuotingItsDSN(t *testing.T) {
	t.Parallel()
	for text, part := range map[string]string{
		"threshold: 1ms":                  `source "main": watch: threshold 1ms`,
		"every: 100ms":                    `source "main": watch: read every 100ms`,
		"kill: always":                    `source "main": watch: kill policy "always"`,
		"kill: all":                       `source "main": watch: kill policy all needs the list of users`,
		"colour: red":                     "colour",
		"dsn: 'w:s3cret@pigeon'":          "DSN invalid",
		"dsn: 'w:s3cret@tcp(h:1)/?tls=q'": "DSN invalid",
	} {
		var out bytes.Buffer
		if code := run([]string{"-config", writeFile(t, sourced(text)), "-http-listen", "127.0.0.1:0"}, env(), &out, &out); code != exitUsage {
			t.Errorf("%s: exit code %d: %s", text, code, &out)
		}
		if !strings.Contains(out.String(), part) || strings.Contains(out.String(), "s3cret") {
			t.Errorf("%s: %s", text, &out)
		}
	}
	if _, err := load([]string{"-dev", "-outage-max", "-1s"}, env(), new(bytes.Buffer)); err == nil || !strings.Contains(err.Error(), "outage_max") {
		t.Errorf("%v", err)
	}
}

func TestTransactions_NodeThatDoesNotLeadShowsAndEndsNothing(t *testing.T) {
	t.Parallel()
	p := &places{}
	sources, targets := p.drainPlaces()
	task, err := drain.New(drain.Default(), drain.Parts{Log: taskLog{}, Sources: sources, Targets: targets, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if got := (transactionsView{task}).Transactions(t.Context()); got.Transactions == nil || got.Sources == nil {
		t.Errorf("%+v", got)
	}
	if _, err := (transactionsView{task}).KillTransaction(t.Context(), "main.1.2", "why"); !errors.Is(err, httpapi.ErrTransactionNotFound) {
		t.Error(err)
	}
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(transactionsCollector{task}); err != nil {
		t.Fatal(err)
	}
	if families, err := registry.Gather(); err != nil || len(families) != 0 {
		t.Errorf("%v, %v", families, err)
	}
}
