package httpapi

import (
	"context"
	"encoding/base64"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

// view is the state as one read sees it, with the cluster time of the reading: the state's own time moves with entries only.
type view struct {
	*fsm.State
	now uint64
}

func (v view) since(t uint64) uint64 { return minus(v.now, t) }
func (v view) until(t uint64) uint64 { return minus(t, v.now) }

func minus(a, b uint64) uint64 {
	if a <= b {
		return 0
	}
	return a - b
}

func (s *Server) view(f func(v view)) {
	now := s.rep.Now()
	s.rep.View(func(st *fsm.State) { f(view{st, max(now, st.Now())}) })
}

// fresh makes sure that a view shows everything that was acknowledged before, unless the caller said that it need not.
func (s *Server) fresh(ctx context.Context, consistency string) error {
	if consistency == api.Stale {
		return nil
	}
	if err := s.rep.Read(ctx); err != nil {
		return unread(err)
	}
	return nil
}

// Consistent is the query of every read.
type Consistent struct {
	Consistency string `query:"consistency" enum:"linearizable,stale" default:"linearizable" doc:"stale: answered from the state of whichever node is asked"`
}

// Listing is the query of every collection.
type Listing struct {
	Consistent
	Index  uint64 `query:"index" maximum:"9007199254740991" doc:"Long poll: answer when the collection is newer than this, or wait_ms has passed"`
	WaitMs uint64 `query:"wait_ms" maximum:"60000"`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	Cursor string `query:"cursor" maxLength:"1024" doc:"As the preceding page gave it"`
	Prefix string `query:"prefix" maxLength:"256" doc:"Of the name or id"`
}

func (l *Listing) listing() *Listing { return l }

// item registers the read of one thing. find answers a code when there is none; a version other than 0 becomes the entity tag.
func item[A any](s *Server, path, id string, find func(v view, subject string) (a A, version uint64, code fsm.Code)) {
	huma.Register(s.huma, s.spec(http.MethodGet, path, id), func(ctx context.Context, in *Consistent) (*answer[A], error) {
		subject, p := exchangeOf(ctx).subject()
		if p != nil {
			return nil, p
		}
		if err := s.fresh(ctx, in.Consistency); err != nil {
			return nil, err
		}
		out := &answer[A]{Status: http.StatusOK}
		var version uint64
		var code fsm.Code
		s.view(func(v view) {
			out.Body, version, code = find(v, subject)
			out.Index = v.Revision()
		})
		if code != "" {
			return nil, refusedBy(fsm.Result{Code: code, Index: out.Index})
		}
		if version != 0 {
			out.ETag = etag(version)
		}
		return out, nil
	})
}

// collection registers the read of a table: linearizable or stale, paged, and as a long poll.
func collection[I, A any, Q interface {
	*I
	listing() *Listing
}](s *Server, path, id, table string, list func(v view, q Q, p *page) A) {
	huma.Register(s.huma, s.spec(http.MethodGet, path, id), func(ctx context.Context, in *I) (*answer[A], error) {
		q := Q(in)
		l := q.listing()
		p, err := newPage(l, id)
		if err != nil {
			return nil, err
		}
		if err := s.fresh(ctx, l.Consistency); err != nil {
			return nil, err
		}
		if err := s.awaitNewer(ctx, l, table); err != nil {
			return nil, err
		}
		out := &answer[A]{Status: http.StatusOK}
		s.view(func(v view) {
			p.index = v.Revision()
			out.Body = list(v, q, p)
		})
		out.Index = p.index
		return out, nil
	})
}

// awaitNewer parks until the table changed after the index. The state that it wakes on holds everything that it held after fresh, so the
// answer stays linearizable even if the leadership is lost meanwhile.
func (s *Server) awaitNewer(ctx context.Context, l *Listing, table string) error {
	w := s.rep.Watch(table, "")
	defer w.Close()
	patience := time.NewTimer(time.Duration(l.WaitMs) * time.Millisecond)
	defer patience.Stop()
	for {
		var modified, revision uint64
		s.view(func(v view) { modified, revision = v.Modified(table), v.Revision() })
		ahead := l.Index > revision
		switch {
		case ahead && l.Consistency != api.Stale:
			// Only a restore makes an index that was seen come from the future.
			return indexAhead(revision)
		case modified > l.Index || l.WaitMs == 0 && !ahead:
			return nil
		}
		select {
		case <-w.Wake():
			continue
		case <-patience.C:
		case <-s.draining:
		case <-ctx.Done():
		}
		if ahead {
			return indexAhead(revision) // a follower that lags would have caught up, unless the wait was short
		}
		return nil
	}
}

func indexAhead(revision uint64) *refusal {
	p := problem(api.CodeIndexAhead, "the cluster was restored from a backup, or this node lags: read the collection anew")
	p.Index = revision
	return p
}

// page counts rows into one answer and remembers where the next begins.
type page struct {
	kind   string
	prefix string
	after  string // key of the last row of the preceding page; its rows came in the order of their keys
	limit  int
	index  uint64
	n      int
	last   string
	more   bool
}

func newPage(l *Listing, kind string) (*page, error) {
	p := &page{kind: kind, limit: l.Limit, prefix: l.Prefix}
	if l.Cursor == "" {
		return p, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(l.Cursor)
	after, ours := strings.CutPrefix(string(b), kind+"\x00")
	if err != nil || !ours {
		return nil, invalid("query.cursor", "must be what an answer of this collection gave")
	}
	p.after = after
	return p, nil
}

// from is where to begin to look.
func (p *page) from() string { return max(p.after, p.prefix) }

// row decides about one row: whether the answer has it, and whether there is a point in looking further.
func (p *page) row(key string, wanted bool) (take, further bool) {
	switch {
	case key == p.after && p.after != "":
		return false, true
	case !strings.HasPrefix(key, p.prefix):
		return false, key < p.prefix
	case !wanted:
		return false, true
	case p.n == p.limit:
		p.more = true
		return false, false
	}
	p.n++
	p.last = key
	return true, true
}

func (p *page) head() api.Page {
	out := api.Page{Index: p.index}
	if p.more {
		out.Cursor = base64.RawURLEncoding.EncodeToString([]byte(p.kind + "\x00" + p.last))
	}
	return out
}
