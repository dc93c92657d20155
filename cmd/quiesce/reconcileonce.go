package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/url"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/mysql"
	"github.com/quiescehq/quiesce/reconcile"
	"github.com/quiescehq/quiesce/rediscache"
	"github.com/quiescehq/quiesce/solo"
)

const (
	envRedisPassword = "QUIESCE_REDIS_PASSWORD"
	onceConfirm      = 5 * time.Second // nothing says what is under way, so a difference has to last longer than most changes take
	onceMapping      = "mapping"       // its name, where the file has none to give
	oncePlace        = "once"          // of source and target, unless the file names them
)

// onceAsked is what the flags of reconcile once say.
type onceAsked struct {
	passFlags
	dsn, redis, redisUser, file string
}

func (c *cli) reconcileOnce() *cobra.Command {
	var asked onceAsked
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "once --mysql DSN --redis HOST:PORT -f FILE",
		Short: "Compare a table with a cache, without a cluster and without changing anything",
		Long: `Compare a table with a cache that somebody else keeps, without a cluster. Both sides are only read: SELECT and SHOW, and commands that read.

The file is a mapping's specification, see docs/mappings.md; source and target need not stand in it. The DSN comes from --mysql or from $` + envDSN + `, the password of Redis from
$` + envRedisPassword + `: what stands in an argument can be seen in the list of processes. A Redis user needs the keys, +@read, +@connection and +time, and for --extras +info.

Nothing tells which changes are under way: a difference counts when row and key both stood still and differed twice, --confirm apart. Take more than your slowest writer needs between its commit and
the cache.

The exit code tells how it ended: 0 nothing differs, 65 something does, 77 it could not be found out, 75 it was ended before.`,
		Example: `  quiesce reconcile once --mysql 'reader:secret@tcp(10.0.0.5:3306)/shop' --redis 10.0.0.6:6379 -f orders.yaml
  quiesce reconcile once --mysql 'reader:secret@tcp(10.0.0.5:3306)/shop' --redis 10.0.0.6:6379 -f orders.yaml --sample 0.01 --json`,
		Args: takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c.asJSON(asJSON)
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
			defer stop()
			return c.compareOnce(ctx, asked)
		},
	}
	asked.addScope(cmd)
	flags := cmd.Flags()
	flags.StringVar(&asked.dsn, "mysql", "", "user:password@tcp(host:port)/database ($"+envDSN+")")
	flags.StringVar(&asked.redis, "redis", "", "host:port, redis://host:port/DB, or several host:port of a cluster, separated by commas")
	flags.StringVar(&asked.redisUser, "redis-user", "", "account of Redis; its password is $"+envRedisPassword)
	flags.StringVarP(&asked.file, "file", "f", "", "the mapping's specification, in YAML or JSON; - is standard input")
	flags.DurationVar(&asked.confirm, "confirm", onceConfirm, "a difference must outlast this before it counts")
	flags.BoolVar(&asJSON, "json", false, "the same as -o json: what was found, at the end")
	return cmd
}

// oncePlaces are both sides and the rule between them.
type oncePlaces struct {
	name    string
	spec    mapping.Spec
	columns []mapping.Column
	rule    *mapping.Mapping
	sample  []string // keys of one row
	source  *mysql.Source
	target  *rediscache.Target
}

func (p *oncePlaces) close() error {
	var errs []error
	if p.source != nil {
		errs = append(errs, p.source.Close())
	}
	if p.target != nil {
		errs = append(errs, p.target.Close())
	}
	return errors.Join(errs...)
}

func (c *cli) compareOnce(ctx context.Context, asked onceAsked) error {
	var places oncePlaces
	defer func() { _ = places.close() }() // everything was read
	if err := c.openOnce(ctx, asked, &places); err != nil {
		return err
	}
	options, err := places.options(asked)
	if err != nil {
		return err
	}
	report, err := c.runOnce(ctx, &places, options)
	if err != nil {
		return err
	}
	return c.concludePass(report)
}

// openOnce finds out whether the two sides can be compared, and says what is wrong as exactly as it can.
func (c *cli) openOnce(ctx context.Context, asked onceAsked, p *oncePlaces) (err error) {
	dsn := cmp.Or(asked.dsn, c.getenv(envDSN))
	switch {
	case dsn == "":
		return usage("once needs --mysql, or $%s", envDSN)
	case asked.redis == "":
		return usage("once needs --redis, such as 127.0.0.1:6379")
	case asked.file == "":
		return usage("once needs -f, the file with the mapping's specification")
	case asked.confirm < time.Millisecond:
		return usage("--confirm must be a millisecond or more")
	}
	if err := p.readSpec(asked.file); err != nil {
		return err
	}
	if p.source, err = mysql.Open(mysql.Config{Name: p.spec.Source, DSN: dsn, DialTimeout: min(attemptMax, c.timeout), QueryTimeout: c.timeout}); err != nil {
		return usage("%w", err)
	}
	to, err := c.redisOf(asked, p.spec.Target)
	if err != nil {
		return err
	}
	if p.target, err = rediscache.Open(to); err != nil {
		return usage("%w", err)
	}
	if err := p.inspect(ctx); err != nil {
		return err
	}
	return p.probe(ctx)
}

func (p *oncePlaces) readSpec(file string) error {
	given, err := readSpec(file)
	if err != nil {
		return err
	}
	text, err := json.Marshal(given)
	if err != nil {
		return usage("%s: %w", file, err)
	}
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&p.spec); err != nil {
		return usage("%s: %w", file, err)
	}
	p.spec.Source, p.spec.Target = cmp.Or(p.spec.Source, oncePlace), cmp.Or(p.spec.Target, oncePlace)
	p.spec.Mode = cmp.Or(p.spec.Mode, mapping.WriteThrough)
	p.name = onceMapping
	if mapping.ValidName(p.spec.Table) {
		p.name = p.spec.Table
	}
	return nil
}

// redisOf reads the address. A cluster has several.
func (c *cli) redisOf(asked onceAsked, name string) (rediscache.Config, error) {
	out := rediscache.Config{Name: name, Username: asked.redisUser, Password: c.getenv(envRedisPassword)}
	address := asked.redis
	if strings.Contains(address, "://") {
		u, err := url.Parse(address)
		if err != nil || u.Scheme != "redis" || u.Host == "" {
			return out, usage("--redis: must be host:port or redis://host:port/DB; its password is better given in $%s", envRedisPassword) // the address may hold a password
		}
		address = u.Host
		if u.User != nil {
			given, _ := u.User.Password()
			out.Username, out.Password = cmp.Or(out.Username, u.User.Username()), cmp.Or(given, out.Password)
		}
		if db := strings.Trim(u.Path, "/"); db != "" {
			if out.DB, err = strconv.Atoi(db); err != nil {
				return out, usage("--redis: %q is no number of a database", db)
			}
		}
	}
	if addrs := strings.Split(address, ","); len(addrs) > 1 {
		out.Kind, out.Addrs = rediscache.Cluster, addrs
		return out, nil
	}
	out.Addr = address
	return out, nil
}

func (p *oncePlaces) inspect(ctx context.Context) error {
	found, err := p.source.Inspect(ctx, p.spec)
	switch {
	case errors.Is(err, mysql.ErrUnreachable):
		return &exitError{exitUnavailable, fmt.Errorf("MySQL cannot be reached: %w", err)}
	case errors.Is(err, mysql.ErrTableChanged):
		return &exitError{exitFailed, fmt.Errorf("there is no table %q, or its account may not see it: %w", p.spec.Table, err)}
	case err != nil:
		return &exitError{exitFailed, err}
	}
	if err := found.Fault(); err != nil {
		return usage("the mapping cannot be used: %w", err)
	}
	p.columns, p.rule = found.Columns, found.Mapping
	if found.Sample != nil && found.Sample.Key != nil {
		p.sample = p.rule.Keys(found.Sample.Key)
	}
	return nil
}

// probe reads what a pass would, so that an account that may not is told at once.
func (p *oncePlaces) probe(ctx context.Context) error {
	kind := mapping.TypeString
	if p.spec.Encoding == mapping.Hash {
		kind = mapping.TypeHash
	}
	keys := p.sample
	if len(keys) == 0 {
		return nil // an empty table
	}
	_, err := p.target.Read(ctx, []rediscache.KeyRequest{{Key: keys[0], Type: kind}})
	switch {
	case errors.Is(err, rediscache.ErrUnreachable):
		return &exitError{exitUnavailable, fmt.Errorf("Redis cannot be reached: %w", err)}
	case errors.Is(err, rediscache.ErrDenied):
		return &exitError{exitFailed, fmt.Errorf("Redis refuses it: the user needs the mapping's keys, +@read, +@connection and +time: %w", err)}
	case err != nil:
		return &exitError{exitFailed, err}
	}
	return nil
}

func (p *oncePlaces) options(asked onceAsked) (fsm.PassOptions, error) {
	out := fsm.PassOptions{Mode: fsm.PassDryRun, ConfirmMs: uint64(asked.confirm.Milliseconds()), SamplePPM: uint64(math.Round(asked.sample * 1_000_000)), Extras: asked.extras, RateMax: asked.rate}
	switch {
	case asked.sample < 0 || asked.sample > 1 || asked.sample > 0 && out.SamplePPM == 0:
		return out, usage("--sample is a share of the rows, such as 0.01")
	case asked.extras && !p.spec.OwnsPrefix:
		return out, usage("--extras needs owns_prefix: true in the mapping: keys that look like its own may be somebody else's")
	case asked.extras && (asked.from != "" || asked.to != "" || asked.sample > 0 && asked.sample < 1):
		return out, usage("--extras goes with neither a range nor a sample")
	case !p.rule.NeedsRow() && !asked.extras:
		return out, usage("the mapping only invalidates, so any value of a row that is there is right; --extras finds keys without a row")
	}
	for _, end := range []struct {
		flag, key string
		out       *string
	}{{"--from", asked.from, &out.From}, {"--to", asked.to, &out.To}} {
		if end.key == "" {
			continue
		}
		place, err := p.rule.Place(keyParts(end.key))
		if err != nil {
			return out, usage("%s: %w", end.flag, err)
		}
		*end.out = mapping.EncodeKey(place)
	}
	return out, nil
}

// untouched is the memory of an outbox that there is none of: nothing is known to be on its way.
type untouched struct{}

func (untouched) Recent(fsm.RowRef, uint64) (touched, covered bool) { return false, true }

// runOnce has the reconciliation task do one pass over a state in this process.
func (c *cli) runOnce(parent context.Context, p *oncePlaces, options fsm.PassOptions) (passReport, error) {
	log := solo.New(oncePlace)
	id, err := p.begin(log, options)
	if err != nil {
		return passReport{}, err
	}
	task, err := reconcile.New(reconcile.Default(), reconcile.Parts{Log: log, Sources: map[string]reconcile.Source{p.spec.Source: p.source},
		Targets: map[string]reconcile.Target{p.spec.Target: p.target}, Acknowledged: untouched{}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return passReport{}, err
	}
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return task.Run(ctx) })
	view := newPassView(c)
	wake, stop := log.Watch("passes", "")
	defer stop()
	for over := false; !over; {
		report := onceReport(log, task, id)
		if err = view.show(report.Pass); err != nil || report.Pass.State != api.PassRunning {
			break
		}
		over = !waitFor(ctx, wake)
	}
	cancel()
	err = errors.Join(err, group.Wait())
	report := onceReport(log, task, id)
	if err == nil && report.Pass.State == api.PassRunning {
		err = &exitError{exitNotInTime, fmt.Errorf("ended before it was over; nothing is left running")}
	}
	return report, err
}

// waitFor tells whether something may have happened before ctx ended.
func waitFor(ctx context.Context, wake <-chan struct{}) bool {
	timer := time.NewTimer(askEvery)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-wake:
	case <-timer.C:
	}
	return true
}

func (p *oncePlaces) begin(log *solo.Log, options fsm.PassOptions) (uint64, error) {
	spec, err := json.Marshal(p.spec)
	if err != nil {
		return 0, err
	}
	columns, err := json.Marshal(p.columns)
	if err != nil {
		return 0, err
	}
	put := log.Do(fsm.PutMapping{Name: p.name, Source: p.spec.Source, Target: p.spec.Target, Table: p.spec.Table, Spec: spec, Columns: columns})
	if put.Refused() {
		return 0, usage("the mapping is refused: %s", put.Detail)
	}
	started := log.Do(fsm.StartPass{Mapping: p.name, PassOptions: options})
	if started.Refused() {
		return 0, usage("the pass is refused: %s", started.Detail)
	}
	return started.Pass.ID, nil
}
