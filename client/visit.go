package client

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// routesMax bounds how many routes a list of what is left over names.
	routesMax = 16
	// routeBytesMax bounds the name of a route that is a path, which a stranger has chosen.
	routeBytesMax = 128
)

// visit is one request that the gate has let in: what is known of it when it is left over. It copies what it needs, for the request
// belongs to its handler.
type visit struct {
	method, host, path string
	pattern            string         // of the route, if the framework has found it before the gate
	router             *http.ServeMux // that will find it, or nil
	since              time.Time
	class              atomic.Pointer[Class] // the innermost
	refused            atomic.Bool           // by a class
}

type visitKey struct{}

// visitOf gives the request that a context belongs to, or nil.
func visitOf(ctx context.Context) *visit {
	v, _ := ctx.Value(visitKey{}).(*visit)
	return v
}

// route names the request. A router is asked again instead of listened to: it writes the pattern that it found into a request that others
// must not read meanwhile, and this is needed once in a while.
func (v *visit) route() string {
	pattern := v.pattern
	if pattern == "" && v.router != nil {
		_, pattern = v.router.Handler(&http.Request{Method: v.method, Host: v.host, URL: &url.URL{Path: v.path}})
	}
	if pattern == "" {
		pattern = v.path[:min(len(v.path), routeBytesMax)]
	}
	if !strings.Contains(pattern, " ") {
		pattern = v.method + " " + pattern
	}
	if c := v.class.Load(); c != nil {
		pattern += " (" + c.name + ")"
	}
	return pattern
}

// visits are the requests under way.
type visits struct {
	mu  sync.Mutex
	all map[*visit]struct{}
}

func (s *visits) add(v *visit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[*visit]struct{}{}
	}
	s.all[v] = struct{}{}
}

func (s *visits) remove(v *visit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, v)
}

// list names the requests under way by route, the most frequent first.
func (s *visits) list() []string {
	s.mu.Lock()
	all := make([]*visit, 0, len(s.all))
	for v := range s.all {
		all = append(all, v)
	}
	s.mu.Unlock()
	type group struct {
		route  string
		count  int
		oldest time.Duration
	}
	byRoute := map[string]*group{}
	for _, v := range all {
		route := v.route()
		g := byRoute[route]
		if g == nil {
			g = &group{route: route}
			byRoute[route] = g
		}
		g.count++
		g.oldest = max(g.oldest, time.Since(v.since))
	}
	groups := make([]*group, 0, len(byRoute))
	for _, g := range byRoute {
		groups = append(groups, g)
	}
	slices.SortFunc(groups, func(a, b *group) int {
		return cmp.Or(cmp.Compare(b.count, a.count), cmp.Compare(a.route, b.route))
	})
	var names []string
	for i, g := range groups {
		if i == routesMax {
			return append(names, fmt.Sprintf("and %d other routes", len(groups)-i))
		}
		names = append(names, fmt.Sprintf("%s: %d, the oldest for %v", g.route, g.count, g.oldest.Round(time.Millisecond)))
	}
	return names
}
