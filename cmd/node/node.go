package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/quiescehq/quiesce/alert"
	"github.com/quiescehq/quiesce/drain"
	"github.com/quiescehq/quiesce/failover"
	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/httpapi"
	"github.com/quiescehq/quiesce/outbox"
	"github.com/quiescehq/quiesce/reconcile"
	"github.com/quiescehq/quiesce/relay"
	"github.com/quiescehq/quiesce/replica"
	"github.com/quiescehq/quiesce/replica/store"
)

// node is one assembled node.
type node struct {
	cfg      Config
	log      *slog.Logger
	listener net.Listener
	places   *places
	replica  *replica.Replica
	edge     *httpapi.Server
	tasks    []replica.Task
}

func newLogger(cfg Config, out io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(cfg.LogLevel)) // validated
	options := &slog.HandlerOptions{Level: level}
	var handler slog.Handler = slog.NewTextHandler(out, options)
	if cfg.LogFormat == "json" {
		handler = slog.NewJSONHandler(out, options)
	}
	return slog.New(handler).With("node", cfg.NodeID)
}

// open takes addresses and the data folder. What it has opened is closed again when something fails.
func open(cfg Config, log *slog.Logger, fatal func(error)) (_ *node, err error) {
	n := &node{cfg: cfg, log: log}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	if n.listener, err = net.Listen("tcp", cmp.Or(cfg.HTTPListen, cfg.HTTPAddr)); err != nil {
		return nil, fmt.Errorf("cannot listen for HTTP on %s: %w", cmp.Or(cfg.HTTPListen, cfg.HTTPAddr), err)
	}
	if n.places, err = openPlaces(cfg); err != nil {
		return nil, usageError{err}
	}
	if n.replica, err = replica.Open(n.replicaConfig(fatal)); err != nil {
		return nil, err
	}
	if err = n.openTasks(); err != nil {
		return nil, err
	}
	return n, nil
}

func (n *node) replicaConfig(fatal func(error)) replica.Config {
	rc := replica.Config{
		NodeID: n.cfg.NodeID, DataDir: n.cfg.DataDir, LogStore: store.Kind(n.cfg.LogStore), PeerAddr: n.cfg.PeerAddr, Listen: n.cfg.PeerListen, Expect: n.cfg.peers(),
		HTTPAddr: n.listener.Addr().String(), Version: version(), Sources: n.places.sourcePlaces(), Targets: n.places.targetPlaces(),
		ElectionTimeout: n.cfg.ElectionTimeout, MinVoters: n.cfg.MinVoters, OnFatal: fatal, Logger: n.log,
	}
	if !n.cfg.Dev {
		rc.HTTPAddr = n.cfg.HTTPAddr // as configured: it may be a name that resolves differently elsewhere
	}
	return rc
}

func (n *node) openTasks() error {
	log := taskLog{n.replica}
	delivery, err := outbox.New(outbox.Default(), log, n.places.outboxPlaces(), n.log)
	if err != nil {
		return err
	}
	sourcesWatched, targetsSwept := n.places.drainPlaces()
	ending, err := drain.New(n.cfg.drain(), drain.Parts{Log: log, Sources: sourcesWatched, Targets: targetsSwept, Logger: n.log})
	if err != nil {
		return err
	}
	edgeMappings := mappings{n.places, n.replica, newRules()}
	relays, err := relay.New(n.cfg.relay(), relay.Parts{Log: log, Mapper: rowMapper{edgeMappings}, Sources: n.places.relayPlaces(), Logger: n.log})
	if err != nil {
		return err
	}
	sources, targets := n.places.reconcilePlaces()
	passes, err := reconcile.New(n.cfg.reconcile(), reconcile.Parts{Log: log, Sources: sources, Targets: targets, Acknowledged: delivery, Relays: relays, Logger: n.log})
	if err != nil {
		return err
	}
	delivery.Tap(passes.Offer)
	alerts, err := alert.New(n.cfg.alerts(), log, n.cfg.NodeID, n.log)
	if err != nil {
		return err
	}
	targetsSeen, sourcesSeen := n.places.failoverPlaces()
	failovers, err := failover.New(failover.Default(), failover.Parts{Log: log, Targets: targetsSeen, Sources: sourcesSeen, Memory: delivery, Logger: n.log})
	if err != nil {
		return err
	}
	judged := newTargetChecks(n.places.checkedTargets(), log, n.log)
	n.tasks = []replica.Task{delivery, passes, ending, relays, alerts, failovers, judged}
	n.edge, err = httpapi.New(httpapi.Config{
		Node: n.cfg.NodeID, Version: version(), Replica: httpapi.Over(n.replica), Backups: httpapi.OverBackups(n.replica), Mappings: edgeMappings,
		Stores: n.places, Outbox: outboxView{delivery}, Transactions: transactionsView{ending}, Relays: relaysView{relays}, Passes: passesView{passes},
		Collectors: []prometheus.Collector{transactionsCollector{ending}, relayCollector{relays}, judged}, Log: n.log,
	})
	return err
}

// taskLog is the replica as the leader's tasks see it.
type taskLog struct{ *replica.Replica }

func (l taskLog) Watch(table, key string) (wake <-chan struct{}, stop func()) {
	w := l.Replica.Watch(table, key)
	return w.C, w.Close
}

func (l taskLog) View(f func(*fsm.State)) { l.Replica.View(f) }

// run serves until ctx is done and then stops in this order: readiness off, leave the cluster while still serving and forwarding, end
// requests, close the listener, raft, transport and stores.
func (n *node) run(ctx context.Context) error {
	if n.cfg.Dev {
		n.log.Warn("development node: one node, in memory, without any security; all is lost when it ends")
	}
	n.log.Info("serving", "http", n.listener.Addr().String(), "peers", n.replica.PeerAddr(), "version", version())
	replicaCtx, stopReplica := context.WithCancel(context.WithoutCancel(ctx))
	defer stopReplica()
	edgeCtx, stopEdge := context.WithCancel(replicaCtx)
	var group errgroup.Group
	listener := n.listener
	n.listener = nil // the edge closes it
	group.Go(func() error { return endWith(n.replica.Run(replicaCtx, n.tasks...), stopEdge) })
	group.Go(func() error { return endWith(n.edge.Serve(edgeCtx, listener), stopReplica) })
	group.Go(func() error {
		defer stopReplica()
		n.reportReadiness(ctx, edgeCtx)
		if ctx.Err() != nil {
			n.depart(context.WithoutCancel(ctx))
		}
		stopEdge()
		return nil
	})
	err := group.Wait()
	return errors.Join(err, n.close())
}

// endWith ends the other half when one half has ended.
func endWith(err error, stop context.CancelFunc) error {
	stop()
	return err
}

const readinessEvery = 50 * time.Millisecond

// reportReadiness follows the replica until the shutdown begins or the edge has ended.
func (n *node) reportReadiness(ctx, edge context.Context) {
	ticker := time.NewTicker(readinessEvery)
	defer ticker.Stop()
	was := false
	for {
		ready, reason := n.replica.Ready()
		n.edge.SetReady(ready, reason)
		if ready != was {
			n.log.Info("readiness changed", "ready", ready, "reason", reason)
		}
		was = ready
		select {
		case <-ticker.C:
		case <-ctx.Done():
			n.edge.SetReady(false, "this node is stopping")
			return
		case <-edge.Done():
			return
		}
	}
}

func (n *node) depart(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.ShutdownTimeout)
	defer cancel()
	n.log.Info("stopping", "on_sigterm", n.cfg.OnSIGTERM, "drain_delay", n.cfg.DrainDelay)
	d := n.replica.Depart(ctx, replica.DepartConfig{DrainDelay: n.cfg.DrainDelay, QuorumWait: n.cfg.QuorumWait, StopOnly: n.cfg.OnSIGTERM == "stop"})
	if d.Left {
		n.log.Info("left the cluster; it is rejoined at the next start")
	} else {
		n.log.Warn("stopping in place", "reason", d.Reason)
	}
}

func (n *node) close() error {
	var errs []error
	if n.listener != nil {
		errs = append(errs, n.listener.Close())
	}
	if n.replica != nil {
		errs = append(errs, n.replica.Close())
	}
	if n.places != nil {
		errs = append(errs, n.places.close())
	}
	return errors.Join(errs...)
}
