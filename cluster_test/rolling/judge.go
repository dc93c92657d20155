package rolling

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"slices"
	"time"

	_ "github.com/go-sql-driver/mysql" // the driver of database/sql

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/cluster_test/harness"
)

const sampleEvery = 5 * time.Millisecond

// sample looks at the service again and again, while it ends only with ctx. It is joined before anybody reads what it found.
func (r *run) sample(ctx context.Context) {
	caller := r.c.Caller()
	ticker := time.NewTicker(sampleEvery)
	defer ticker.Stop()
	for {
		var s api.Service
		answer, err := caller.Do(ctx, harness.Request{Method: http.MethodGet, Path: "/v1/services/" + service})
		if err == nil && answer.Into(&s) == nil {
			r.report.Samples++
			if why := overspentNow(s); why != "" {
				r.report.BudgetViolations++
				r.odd = append(r.odd[:min(len(r.odd), complainMax)], why)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// overspentNow judges a sample twice: by the coordinator's own count, and by the states of the instances.
func overspentNow(s api.Service) string {
	away := s.Live[api.StateDraining] + s.Live[api.StateDrained] + s.Live[api.StatePaused]
	serving := s.Live[api.StateReady] + s.Live[api.StateQueued]
	if s.Unavailable > 1 || s.Available < appsCount-1 || away > 1 || serving < appsCount-1 {
		return fmt.Sprintf("%d available, %d not, instances %v", s.Available, s.Unavailable, s.Live)
	}
	return ""
}

// judge compares what was said with what is there.
func (r *run) judge() {
	r.t.Helper()
	c := r.load.tally.Counts()
	took := time.Since(r.began)
	out := &r.report
	out.Requests, out.Cut, out.Refused, out.Failed, out.TimedOut, out.Gated = c.OK+c.Failed, c.Cut, c.Refused, c.Failed, c.Timed, c.Gated
	out.Seconds, out.LeastReady = took.Round(time.Millisecond).Seconds(), r.balancer.LeastReady()
	for _, text := range r.load.tally.Odd() {
		r.t.Logf("odd: %s", text)
	}
	r.judgeLedger()
	r.judgeLog()
	for _, why := range r.odd {
		r.t.Logf("over budget: %s", why)
	}
	r.check(c.Cut+c.Refused+c.Failed+c.Timed == 0, "no request is cut, refused, late or failed: %v", c)
	r.check(out.Duplicated == 0 && out.Lost == 0, "every acknowledged request is committed once: %d lost, %d twice", out.Lost, out.Duplicated)
	r.check(out.BudgetViolations == 0, "the budget is kept: %d violations", out.BudgetViolations)
	r.check(out.LeastReady >= appsCount-1, "the balancer has somebody to send to: at least %d instances were ready", out.LeastReady)
	loaded := r.loaded.Seconds()
	r.check(float64(out.Requests) >= perSecondMin*loaded, "there was a load: %d requests in %.0f s", out.Requests, loaded)
	r.check(float64(out.Samples) >= samplesMin*loaded, "the budget was looked at: %d samples in %.0f s", out.Samples, loaded)
	r.check(out.Control.Cut+out.Control.Refused > 0, "a naive stop is seen to lose requests: %+v", out.Control)
	r.c.AwaitSameState()
	out.OK = r.wrong == 0
}

func (r *run) check(ok bool, format string, a ...any) {
	r.t.Helper()
	if !ok {
		r.complain("not so: "+format, a...)
	}
}

// judgeLedger holds what clients know against what is committed: one row of the ledger and one order for each request.
func (r *run) judgeLedger() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), requestLimit)
	defer cancel()
	db, err := sql.Open("mysql", r.places.MySQLDSN)
	if err != nil {
		r.t.Fatal(err)
	}
	defer db.Close()
	committed := r.orders(ctx, db, "SELECT l.request_id, o.id FROM ledger l JOIN orders o ON o.id = l.order_id AND o.note = l.request_id")
	r.report.Duplicated = len(r.load.double) + len(r.orders(ctx, db, "SELECT note, COUNT(*) FROM orders GROUP BY note HAVING COUNT(*) > 1"))
	for id, order := range r.load.acked {
		if committed[id] != order {
			r.report.Lost++
		}
	}
	for id := range committed {
		if _, acked := r.load.acked[id]; !acked && !slices.Contains(r.load.unsure, id) {
			r.complain("%s was committed, and nobody was told", id)
		}
	}
}

// orders reads pairs of a request and a number.
func (r *run) orders(ctx context.Context, db *sql.DB, query string) map[string]int64 {
	r.t.Helper()
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		r.t.Fatal(err)
	}
	defer rows.Close()
	out := map[string]int64{}
	for rows.Next() {
		var id string
		var n int64
		if err := rows.Scan(&id, &n); err != nil {
			r.t.Fatal(err)
		}
		out[id] = n
	}
	if err := rows.Err(); err != nil {
		r.t.Fatal(err)
	}
	return out
}

// judgeLog reads the histories of all instances.
func (r *run) judgeLog() {
	r.t.Helper()
	s := r.service()
	lives, err := Lives(r.c, service)
	if err != nil {
		r.t.Fatal(err)
	}
	grants, wrong := Overspent(lives, s)
	for _, why := range wrong {
		r.complain("%s", why)
	}
	r.report.Grants = grants
	r.report.BudgetViolations += len(wrong)
	if d := s.Drains; d.Overdrafts+d.Forced+d.Lost != 0 || int(d.Grants) != grants || grants != r.report.Rounds*appsCount {
		r.complain("the service's record is %+v, and its instances tell of %d grants", d, grants)
	}
}
