package main

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/redis/go-redis/v9"

	"github.com/quiescehq/quiesce/cluster_test/traffic"
)

const (
	endLimit  = 8 * time.Second // of what is cleaned up after the run's context has ended: scripts/cluster.sh waits 10 s
	tailLines = 15
)

// demo is one run.
type demo struct {
	options
	report   *report
	cluster  *cluster
	db       *sql.DB
	cache    *redis.Client
	fleet    *fleet
	balancer *traffic.Balancer
	load     *load
	direct   *direct
}

// play runs the phases and leaves nothing behind.
func (d *demo) play(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	err := d.open(ctx)
	if err != nil {
		d.report.check("preparation", false, "%v", err)
	}
	for _, p := range phases {
		if err != nil {
			break
		}
		d.report.say("%s", p.title)
		if err = p.run(d, ctx); err != nil {
			d.report.check(p.title, false, "%v", err)
		}
	}
	if err == nil {
		d.report.finish()
	}
	cancel()
	d.close()
	return err
}

// open connects to everything and builds the application.
func (d *demo) open(ctx context.Context) (err error) {
	if d.cluster, err = openCluster(ctx, d.options, d.report.progress); err != nil {
		return err
	}
	settings, err := mysql.ParseDSN(d.cluster.mysql.DSN)
	if err != nil {
		return err
	}
	settings.ParseTime = false // as MySQL prints it
	connector, err := mysql.NewConnector(settings)
	if err != nil {
		return err
	}
	d.db = sql.OpenDB(connector)
	d.cache = redis.NewClient(&redis.Options{Addr: d.cluster.redis.Addr})
	d.balancer = traffic.NewBalancer(ctx)
	d.load = newLoad(d.balancer)
	if d.direct, err = newDirect(d.cluster, d.load.book); err != nil {
		return err
	}
	d.report.say("building orders")
	d.fleet, err = newFleet(ctx, d.cluster)
	return err
}

// close joins what runs; the run's context has ended. Any part may be missing after a failed start.
func (d *demo) close() {
	ctx, cancel := context.WithTimeout(context.Background(), endLimit)
	defer cancel()
	if d.load != nil {
		d.load.joined.Wait()
	}
	if d.direct != nil {
		d.direct.joined.Wait()
		d.direct.client.Close()
	}
	if d.balancer != nil {
		d.balancer.Close()
	}
	if d.fleet != nil {
		d.fleet.end(ctx)
	}
	if d.cache != nil {
		_ = d.cache.Close()
	}
	if d.db != nil {
		_ = d.db.Close()
	}
}

// evidence prints the ends of all logs.
func (d *demo) evidence(out io.Writer) {
	if d.load != nil {
		tellAll(out, "odd request", d.load.tally.Odd())
	}
	if d.direct != nil {
		tellAll(out, "failed call", d.direct.odd())
	}
	if d.cluster == nil {
		return
	}
	for _, n := range d.cluster.nodes {
		tail(out, n.Log)
	}
	logs, _ := filepath.Glob(filepath.Join(d.dir, "orders", "*.log"))
	for _, log := range logs {
		tail(out, log)
	}
}

func tellAll(out io.Writer, what string, lines []string) {
	for _, line := range lines {
		fmt.Fprintf(out, "%s: %s\n", what, line)
	}
}

func tail(out io.Writer, path string) {
	text, err := os.ReadFile(path)
	if err != nil {
		fmt.Fprintf(out, "---- %v\n", err)
		return
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte{'\n'})
	fmt.Fprintf(out, "---- the end of %s\n", path)
	for _, line := range lines[max(0, len(lines)-tailLines):] {
		fmt.Fprintf(out, "%s\n", line)
	}
}
