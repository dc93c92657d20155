package httpapi

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

// keepaliveInstance renews the instance's session, takes what it says of itself, and tells what the cluster wants of it, if need be when
// there is news. One that is over hears 410 whatever the reason: it must stop serving.
func (s *Server) keepaliveInstance(ctx context.Context, in *unkeyed[api.KeepaliveInstance]) (*answer[api.InstanceLease], error) {
	b := &in.Body
	id, p := exchangeOf(ctx).subject()
	if p != nil {
		return nil, p
	}
	counters, p := countersOf(b.Counters)
	if p != nil {
		return nil, p
	}
	v, err := s.instanceAlive(ctx, id, b.Incarnation)
	if err != nil {
		return nil, err
	}
	leases, failed := s.rep.Keepalive(ctx, []string{v.Session})
	if failed != nil {
		return nil, outcomeOf(failed)
	}
	if leases[0].Gone {
		return nil, fenced()
	}
	remainingMs := leases[0].RemainingMs // from now on: the request was sent before, whatever it waits for from here on
	s.reports.note(id, b.Incarnation, counters)
	s.logConnections(ctx, v, b.Connections)
	wait := min(time.Duration(b.WaitMs)*time.Millisecond, time.Duration(remainingMs/2)*time.Millisecond)
	s.awaitNews(ctx, v, b.After, wait)
	v, alive := s.aliveInstance(id, b.Incarnation)
	if !alive {
		return nil, fenced()
	}
	out := &answer[api.InstanceLease]{Status: http.StatusOK, Index: s.revision()}
	out.Body = api.InstanceLease{State: string(v.State), Directive: directive(v.State), DeadlineInMs: remainingMs}
	s.view(func(now view) {
		out.Body.Revoked = revokedOf(now, v.Session)
		out.Body.ReadOnly, out.Body.Index = newsOf(now.State, v)
	})
	return out, nil
}

func directive(st fsm.InstanceState) string {
	switch st {
	case fsm.InstanceDraining, fsm.InstanceDrained:
		return api.DirectiveDrain
	case fsm.InstancePaused:
		return api.DirectivePause
	case fsm.InstanceReady, fsm.InstanceQueued:
		return api.DirectiveServe
	}
	return ""
}

// newsOf is what an instance follows: its own row, and its service's.
func newsOf(st *fsm.State, v fsm.Instance) (readOnly bool, index uint64) {
	service, _ := st.Service(v.Service)
	return service.ReadOnly, max(v.Index, service.Index)
}

// awaitNews parks until the instance or its service has changed since the given index.
func (s *Server) awaitNews(ctx context.Context, v fsm.Instance, after uint64, patience time.Duration) {
	if patience <= 0 {
		return
	}
	own, service := s.rep.Watch("instances", v.ID), s.rep.Watch("services", v.Service)
	defer own.Close()
	defer service.Close()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		var index uint64
		s.rep.View(func(st *fsm.State) {
			now, _ := st.Instance(v.ID)
			_, index = newsOf(st, now)
		})
		if index != after {
			return
		}
		select {
		case <-own.Wake():
		case <-service.Wake():
		case <-timer.C:
			return
		case <-s.draining:
			return
		case <-ctx.Done():
			return
		}
	}
}

// logConnections logs what an instance has open when that has changed. What cannot be logged now is told again with its next keepalive.
func (s *Server) logConnections(ctx context.Context, v fsm.Instance, said []api.SourceConnections) {
	if said == nil {
		return
	}
	var of []fsm.Connections
	for _, c := range said {
		ids := slices.Compact(slices.Sorted(slices.Values(c.IDs)))
		of = append(of, fsm.Connections{Source: c.Source, IDs: ids})
	}
	slices.SortFunc(of, func(a, b fsm.Connections) int { return strings.Compare(a.Source, b.Source) })
	if v.SameConnections(of) {
		return
	}
	if _, err := s.propose(ctx, fsm.Op{Command: fsm.ReportConnections{ID: v.ID, Incarnation: v.Incarnation, Connections: of}}); err != nil {
		s.log.DebugContext(ctx, "connections not logged", "instance", v.ID, "err", err)
	}
}

// instanceAlive finds the instance that a keepalive speaks for, or says that it is over.
func (s *Server) instanceAlive(ctx context.Context, id string, incarnation uint64) (fsm.Instance, error) {
	v, alive := s.aliveInstance(id, incarnation)
	if alive {
		return v, nil
	}
	// This node may lead without having seen everything yet: only a proven read may tell somebody to stop.
	if err := s.fresh(ctx, api.Linearizable); err != nil {
		return v, err
	}
	if v, alive = s.aliveInstance(id, incarnation); !alive {
		return v, fenced()
	}
	return v, nil
}

func (s *Server) aliveInstance(id string, incarnation uint64) (fsm.Instance, bool) {
	var found fsm.Instance
	var ok bool
	s.rep.View(func(st *fsm.State) { found, ok = st.Instance(id) })
	return found, ok && found.State.Live() && found.Incarnation == incarnation
}

func fenced() *refusal {
	return problem(api.CodeFenced, "this incarnation is over: another one has taken its name, or it left, or was forced or lost")
}

// reports are the counters of instances that the log does not have: what they say with each keepalive. They are as old as the last one
// at this node, and go with it.
type reports struct {
	mu sync.Mutex
	of map[string]report
}

type report struct {
	incarnation uint64
	counters    []fsm.Counter
}

// reportsMax bounds the memory: beyond it everything is forgotten, and told again within a lease's third.
const reportsMax = 2 * fsm.InstancesMax

func (r *reports) note(id string, incarnation uint64, counters []fsm.Counter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(counters) == 0 {
		delete(r.of, id)
		return
	}
	if len(r.of) >= reportsMax {
		clear(r.of)
	}
	r.of[id] = report{incarnation, counters}
}

func (r *reports) last(id string, incarnation uint64) []fsm.Counter {
	r.mu.Lock()
	defer r.mu.Unlock()
	if have := r.of[id]; have.incarnation == incarnation {
		return have.counters
	}
	return nil
}

// countersOf is what is known of an instance: of one that stops or has ended what the log has, else what it said last.
func (s *Server) countersOf(x fsm.Instance) map[string]uint64 {
	list := x.Counters
	if x.State == fsm.InstanceReady || x.State == fsm.InstancePaused || x.State == fsm.InstanceRegistered {
		list = s.reports.last(x.ID, x.Incarnation)
	}
	if len(list) == 0 {
		return nil
	}
	out := make(map[string]uint64, len(list))
	for _, c := range list {
		out[c.Name] = c.Value
	}
	return out
}
