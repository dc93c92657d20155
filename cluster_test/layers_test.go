package cluster_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/quiescehq/quiesce/"

// What a room may use of the world outside, by the beginning of its import path.
const (
	gin        = "github.com/gin-gonic/gin"
	goRedis    = "github.com/redis/go-redis/"
	mysqlGo    = "github.com/go-sql-driver/mysql"
	raftLib    = "github.com/hashicorp/raft"
	hclog      = "github.com/hashicorp/go-hclog"
	bbolt      = "go.etcd.io/bbolt"
	errgroup   = "golang.org/x/sync/errgroup"
	unix       = "golang.org/x/sys/unix"
	huma       = "github.com/danielgtaylor/huma/"
	prometheus = "github.com/prometheus/client_golang/"
	btree      = "github.com/tidwall/btree"
	cbor       = "github.com/fxamacker/cbor/"
	cobra      = "github.com/spf13/cobra"
	gobreaker  = "github.com/sony/gobreaker/"
	yaml       = "go.yaml.in/yaml/"
	xTime      = "golang.org/x/time/rate"
	robfigCron = "github.com/robfig/cron/"
	porcupine  = "github.com/anishathalye/porcupine"
)

// room is what one package may import. The standard library is open to it, but for what silent names.
type room struct {
	own     []string // packages of this module
	outside []string
	silent  bool // no I/O: of layer 0
}

// house is the one table of who may import whom: an import goes down, and each outside technology has one room (and the adapters and
// programs made for it). A package that is not here has no place yet: give it one in the same change.
var house = map[string]room{
	// Layer 0: no I/O.
	"api":     {silent: true},
	"fsm":     {silent: true, outside: []string{btree, cbor}},
	"mapping": {silent: true},

	// Layer 1. Replica holds the adapter of raft's state machine, its store those of raft's stores, transport that of raft's streams.
	"transport/raftlog": {outside: []string{hclog}},
	"transport":         {own: []string{"transport/raftlog"}, outside: []string{raftLib, unix}},
	"replica/store":     {own: []string{"transport/raftlog"}, outside: []string{raftLib, hclog, bbolt, unix}},
	"replica":           {own: []string{"fsm", "replica/store", "transport", "transport/raftlog"}, outside: []string{raftLib, errgroup}},
	"mysql":             {own: []string{"mapping"}, outside: []string{mysqlGo}},
	"rediscache":        {own: []string{"mapping"}, outside: []string{goRedis}},

	// Layer 2.
	"solo":                {own: []string{"fsm"}}, // the state without a cluster: one process is enough to look
	"httpapi":             {own: []string{"api", "fsm", "reconcile/bound", "reconcile/schedule", "replica"}, outside: []string{gin, huma, prometheus, errgroup}},
	"outbox":              {own: []string{"fsm", "mapping", "mysql", "rediscache"}, outside: []string{gobreaker, errgroup}},
	"reconcile":           {own: []string{"fsm", "mapping", "mysql", "reconcile/schedule", "rediscache"}, outside: []string{errgroup, xTime}},
	"reconcile/bound":     {},
	"reconcile/schedule":  {outside: []string{robfigCron}},
	"drain":               {own: []string{"fsm", "mysql", "rediscache"}, outside: []string{errgroup}},
	"failover":            {own: []string{"fsm", "mysql", "rediscache"}, outside: []string{errgroup}},
	"alert":               {own: []string{"fsm"}, outside: []string{errgroup}},
	"relay":               {own: []string{"fsm", "mysql"}, outside: []string{errgroup}},
	"client":              {own: []string{"api"}}, // an application that imports it gets nothing else
	"client/ginquiesce":   {own: []string{"client"}, outside: []string{gin}},
	"client/breaker":      {own: []string{"client"}, outside: []string{gobreaker}},
	"client/quiescetest":  {own: []string{"api", "fsm", "httpapi"}},                              // for tests only: it is the edge and the state
	"client/fence":        {},                                                                    // whoever guards rows by it gets database/sql and nothing else
	"client/redisquiesce": {own: []string{"client", "client/fence"}, outside: []string{goRedis}}, // shares what a token and a refusal are

	// Layer 3.
	"cmd/node": {own: []string{"alert", "api", "drain", "failover", "fsm", "httpapi", "mapping", "mysql", "outbox", "reconcile", "rediscache", "relay", "replica", "replica/store"},
		outside: []string{yaml, errgroup, prometheus}}, // figures of tasks that the edge does not know
	"cmd/quiesce/guard":     {outside: []string{unix}},
	"cmd/quiesce":           {own: []string{"api", "client", "cmd/quiesce/guard", "fsm", "mapping", "mysql", "reconcile", "reconcile/bound", "rediscache", "solo"}, outside: []string{cobra, errgroup, yaml, unix}}, // reconcile once
	"cluster_test":          {own: []string{"api", "client", "cluster_test/chaos", "cluster_test/harness", "cluster_test/rolling", "cluster_test/services"}, outside: []string{mysqlGo, goRedis}},
	"cluster_test/harness":  {own: []string{"api", "cluster_test/links"}},
	"cluster_test/chaos":    {own: []string{"api", "cluster_test/harness", "cluster_test/history"}},
	"cluster_test/history":  {outside: []string{porcupine}},
	"cluster_test/links":    {},
	"cluster_test/services": {own: []string{"cluster_test/harness"}, outside: []string{mysqlGo, goRedis}},
	"cluster_test/traffic":  {},
	"cluster_test/oracle":   {outside: []string{goRedis}}, // nothing of the product: it judges it
	"cluster_test/rolling":  {own: []string{"api", "cluster_test/harness", "cluster_test/services", "cluster_test/traffic"}, outside: []string{mysqlGo}},
	"cluster_test/syncchaos": {own: []string{"api", "cluster_test/harness", "cluster_test/oracle", "cluster_test/services", "cluster_test/syncchaos/ledger", "cluster_test/syncchaos/writer"},
		outside: []string{mysqlGo, goRedis}},
	"cluster_test/syncchaos/ledger": {},
	"cluster_test/syncchaos/writer": {own: []string{"client", "cluster_test/syncchaos/ledger"}, outside: []string{mysqlGo}},
	"cluster_test/rolling/app":      {own: []string{"client", "client/fence"}, outside: []string{mysqlGo}},
	"cluster_test/demo":             {own: []string{"api", "client", "cluster_test/traffic"}, outside: []string{mysqlGo, goRedis, errgroup}},
	"examples/orders":               {own: []string{"client", "client/ginquiesce", "client/redisquiesce"}, outside: []string{gin, mysqlGo, goRedis}},
}

// doesIO are the packages of the standard library that a silent room must not import, with all below them.
var doesIO = []string{"os", "net", "syscall", "database", "log", "io/fs", "io/ioutil", "embed", "plugin", "runtime", "testing", "time"}

// exempt are imports that the list above would refuse for no reason.
// Names of statuses, the type of a moment; texts of addresses, days of the calendar.
var exempt = map[string][]string{"api": {"net/http", "time"}, "mapping": {"net/netip", "time"}}

// listed is a package as the go command lists it.
type listed struct {
	ImportPath string
	Dir        string
	Export     string
	Imports    []string
	GoFiles    []string
}

func TestLayers_ImportsGoDownAndEachTechnologyHasOneRoom(t *testing.T) {
	t.Parallel()
	packages := goList(t, "./...")
	if len(packages) < len(house)/2 {
		t.Fatalf("only %d packages were looked at", len(packages))
	}
	for _, p := range packages {
		for _, wrong := range misplaced(p) {
			t.Error(wrong)
		}
	}
}

// The negative control: a rule that never says no would hold anything.
func TestLayers_WrongImportsAreReported(t *testing.T) {
	t.Parallel()
	for name, imports := range map[string]string{
		"fsm":         module + "replica",
		"api":         "os/exec",
		"mapping":     "net",
		"replica":     module + "httpapi",
		"mysql":       "github.com/redis/go-redis/v9",
		"outbox":      "github.com/hashicorp/raft",
		"httpapi":     module + "outbox",
		"client":      "golang.org/x/sync/errgroup",
		"cmd/node":    gin,
		"replica/new": "fmt",
	} {
		if wrong := misplaced(listed{ImportPath: module + name, Imports: []string{imports}}); len(wrong) != 1 {
			t.Errorf("%s imports %s: %d complaints", name, imports, len(wrong))
		}
	}
	if wrong := misplaced(listed{ImportPath: module + "api", Imports: []string{"net/http", "fmt"}}); len(wrong) != 0 {
		t.Errorf("complained of nothing: %v", wrong)
	}
}

// misplaced are the complaints about one package.
func misplaced(p listed) []string {
	name := strings.TrimPrefix(p.ImportPath, module)
	may, known := house[name]
	if !known {
		return []string{name + " has no place in the layers: see house"}
	}
	var wrong []string
	for _, path := range p.Imports {
		own, isOwn := strings.CutPrefix(path, module)
		standard := !strings.Contains(strings.Split(path, "/")[0], ".")
		switch {
		case isOwn && !slices.Contains(may.own, own):
			wrong = append(wrong, fmt.Sprintf("%s imports %s, which is not below it", name, own))
		case standard && may.silent && within(path, doesIO) && !slices.Contains(exempt[name], path):
			wrong = append(wrong, fmt.Sprintf("%s imports %s, and must do no I/O", name, path))
		case !isOwn && !standard && !begins(path, may.outside):
			wrong = append(wrong, fmt.Sprintf("%s imports %s, which belongs elsewhere", name, path))
		}
	}
	return wrong
}

// within tells whether a path is one of some packages or below one.
func within(path string, packages []string) bool {
	return slices.ContainsFunc(packages, func(p string) bool { return path == p || strings.HasPrefix(path, p+"/") })
}

func begins(path string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(path, p) })
}

// goList asks the go command about packages, from the module's root.
func goList(t *testing.T, arguments ...string) []listed {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json=ImportPath,Dir,Export,Imports,GoFiles"}, arguments...)...)
	command.Dir = ".."
	var complaints bytes.Buffer
	command.Stderr = &complaints
	out, err := command.Output()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, complaints.String())
	}
	var packages []listed
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}
