package syncchaos

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/cluster_test/harness"
)

const (
	calmMin     = 300 * time.Millisecond // between faults
	calmMax     = 1500 * time.Millisecond
	stopMin     = time.Second
	stopMax     = 8 * time.Second
	stopShort   = 3 * time.Second // the longest stop of a short run
	downMax     = time.Second
	steadyFor   = 10 * time.Second // a leader that has led for so long remembers all that everysec may lose
	electWithin = 30 * time.Second
	deposesFor  = 3 * time.Second // a leader that is stopped for so long has a successor
	zombieMin   = 1500 * time.Millisecond
	zombieMax   = 4500 * time.Millisecond // what stood still for so long, and goes on, still takes or writes what others have written again meanwhile
	outageMin   = 3 * time.Second         // longer than an application tries to make a call
	readFor     = 200 * time.Millisecond  // until a delivery has begun, for which MySQL does not answer
	writeFor    = time.Second             // in which another leader writes something newer
	noticeIn    = 60 * time.Second
	loseMin     = 200 * time.Millisecond
	loseMax     = 900 * time.Millisecond // everysec loses no more than a second
)

// Groups of faults. Each has its share of a short run.
const (
	ofNodes = "a node"
	ofApps  = "an application"
	ofRedis = "Redis"
	ofMySQL = "MySQL"
)

// fault does something, waits until it has had its effect, and ends it. It answers what the effect was.
type fault struct {
	group, name string
	steady      bool // comes only when a leader has led for a while
	inflict     func(r *run) string
}

const powerCut = "Redis: power cut"

var faults = []fault{
	{ofNodes, "node: kill -9", false, (*run).killNode},
	{ofNodes, "node: SIGTERM", false, (*run).termNode},
	{ofNodes, "node: SIGSTOP", false, (*run).stopNode},
	{ofNodes, "node: leader stopped between reading and writing", false, (*run).stopReader},
	{ofNodes, "nodes: SIGSTOP of two", false, (*run).stopTwo},
	{ofApps, "application: kill -9", false, (*run).killApp},
	{ofApps, "application: SIGTERM", false, (*run).termApp},
	{ofApps, "application: SIGSTOP", false, (*run).stopApp},
	{ofRedis, "Redis: kill -9", true, (*run).killRedis},
	{ofRedis, powerCut, true, (*run).cutRedis},
	{ofRedis, "Redis: restart", false, (*run).restartRedis},
	{ofRedis, "Redis: restart while the leader dies", false, (*run).restartRedisUnseen},
	{ofRedis, "Redis: SIGSTOP", false, (*run).stopRedis},
	{ofMySQL, "MySQL: kill -9", false, (*run).killMySQL},
	{ofMySQL, "MySQL: restart", false, (*run).restartMySQL},
	{ofMySQL, "MySQL: SIGSTOP", false, (*run).stopMySQL},
}

// inflict brings one fault of each group, then the others, and then all again in another order, until the time is over.
func (r *run) inflict() {
	r.t.Helper()
	for round := 0; ; round++ {
		queue := r.order()
		for n := 0; len(queue) > 0; n++ {
			if (round > 0 || n >= groupsCount) && time.Since(r.began) >= r.o.For {
				return
			}
			next := slices.IndexFunc(queue, func(f fault) bool { return !f.steady || r.steady() })
			if next < 0 {
				r.rest(calmMin)
				n--
				continue
			}
			r.bring(queue[next])
			queue = slices.Delete(queue, next, next+1)
		}
	}
}

const groupsCount = 4

// order shuffles the faults, so that the first ones are of different groups.
func (r *run) order() []fault {
	var first, rest []fault
	seen := map[string]bool{}
	for _, i := range r.rng.Perm(len(faults)) {
		if f := faults[i]; seen[f.group] {
			rest = append(rest, f)
		} else {
			first, seen[f.group] = append(first, f), true
		}
	}
	return append(first, rest...)
}

func (r *run) bring(f fault) {
	r.t.Helper()
	r.rest(calmMin + r.some(calmMax-calmMin))
	at := time.Since(r.began).Round(time.Millisecond)
	effect := f.inflict(r)
	r.goOn()
	r.t.Logf("%s after %s: %s; all goes on after %s", f.name, at, effect, time.Since(r.began).Round(time.Millisecond))
	r.report.Faults[f.name]++
}

func (r *run) some(limit time.Duration) time.Duration {
	return time.Duration(r.rng.Int64N(int64(limit)))
}

// stopFor is how long something is stopped.
func (r *run) stopFor() time.Duration {
	if r.rng.IntN(2) == 0 {
		return zombieMin + r.some(zombieMax-zombieMin)
	}
	limit := stopMax
	if r.o.For < longRun {
		limit = stopShort
	}
	return stopMin + r.some(limit-stopMin)
}

// steady tells whether one leader has led for a while.
func (r *run) steady() bool {
	r.t.Helper()
	if status, err := r.world.c.Status(); err != nil || status.Term != r.term {
		r.term, r.termed = status.Term, time.Now()
	}
	return time.Since(r.termed) >= steadyFor
}

// victim is the leader half of the time, else another node, and the cluster as the leader saw it.
func (r *run) victim() (node *harness.Node, before api.Cluster) {
	r.t.Helper()
	leader, before := r.leader()
	if r.rng.IntN(2) == 0 {
		return leader, before
	}
	others := r.world.c.Others(leader)
	return others[r.rng.IntN(len(others))], before
}

func (r *run) leader() (*harness.Node, api.Cluster) {
	r.t.Helper()
	status := r.world.c.AwaitStatus("a leader", func(s api.Cluster) bool { return s.Leader != "" && s.Node == s.Leader })
	return r.world.c.Node(status.Leader), status
}

var errSameLeader = errors.New("it is not so yet")

// succeeded waits until others know of another leader in a later term.
func (r *run) succeeded(before api.Cluster, gone *harness.Node) string {
	r.t.Helper()
	if before.Leader != gone.ID {
		return gone.ID + " did not lead"
	}
	var now api.Cluster
	harness.Eventually(r.t, electWithin, fmt.Sprintf("another leader than %s in term %d", before.Leader, before.Term), func() error {
		for _, n := range r.world.c.Others(gone) {
			answer, err := r.world.c.Send(r.t.Context(), n, harness.Request{Method: http.MethodGet, Path: "/v1/cluster?consistency=stale"})
			if err == nil && answer.Into(&now) == nil && now.Term > before.Term && now.Leader != "" && now.Leader != before.Leader {
				return nil
			}
		}
		return errSameLeader
	})
	return fmt.Sprintf("%s leads in term %d after %s in term %d", now.Leader, now.Term, before.Leader, before.Term)
}

func (r *run) killNode() string {
	node, before := r.victim()
	node.Kill()
	effect := r.succeeded(before, node)
	r.rest(r.some(downMax))
	node.Start()
	r.world.c.AwaitReady(node)
	return effect
}

func (r *run) termNode() string {
	node, before := r.victim()
	node.Term()
	if code := node.Wait(); code != 0 {
		r.complain("%s exited with %d", node.ID, code)
	}
	effect := r.succeeded(before, node)
	r.rest(r.some(downMax))
	node.Start()
	r.world.c.AwaitReady(node)
	return effect
}

func (r *run) stopNode() string {
	node, before := r.victim()
	d := r.stopFor()
	node.Pause()
	defer node.Resume()
	r.rest(d)
	effect := "too short for another leader"
	if d >= deposesFor {
		effect = r.succeeded(before, node)
	}
	return fmt.Sprintf("%s stood still for %s: %s", node.ID, d.Round(time.Millisecond), effect)
}

// stopReader stops the leader while it waits for rows that MySQL holds back, and lets it go on soon after another one leads: it then has old rows and may still write.
func (r *run) stopReader() string {
	leader, before := r.leader()
	r.world.mysql.FreezeMySQL()
	r.rest(readFor)
	leader.Pause()
	defer leader.Resume()
	r.world.mysql.ThawMySQL()
	effect := r.succeeded(before, leader)
	r.rest(r.some(writeFor))
	return effect
}

// stopTwo leaves nobody who could agree with anybody: no event is taken until they go on.
func (r *run) stopTwo() string {
	d := outageMin + r.stopFor()
	nodes := r.rng.Perm(len(r.world.c.Nodes))[:2]
	for _, n := range nodes {
		node := r.world.c.Nodes[n]
		node.Pause()
		defer node.Resume()
	}
	r.rest(d)
	return fmt.Sprintf("two nodes stood still for %s", d.Round(time.Millisecond))
}

func (r *run) app() *instance { return r.apps[r.rng.IntN(len(r.apps))] }

func (r *run) killApp() string {
	a := r.app()
	effect := fmt.Sprintf("%s died in life %d", a.name, a.life)
	r.signal(a, syscall.SIGKILL)
	a.Wait(r.t, exitWithin)
	return effect
}

func (r *run) termApp() string {
	a := r.app()
	life := a.life
	r.signal(a, syscall.SIGTERM)
	code := a.Wait(r.t, exitWithin)
	if code != exitClean && code != exitLeftovers {
		r.complain("%s exited with %d:\n%s", a.name, code, tailOf(a.Output()))
	}
	return fmt.Sprintf("%s ended life %d with code %d", a.name, life, code)
}

func (r *run) stopApp() string {
	a := r.app()
	d := r.stopFor()
	life := a.life
	r.signal(a, syscall.SIGSTOP)
	limit := time.NewTimer(d)
	defer limit.Stop()
	<-limit.C
	r.signal(a, syscall.SIGCONT)
	return fmt.Sprintf("%s stood still for %s in life %d", a.name, d.Round(time.Millisecond), life)
}

// What a leader says of a target that is another one than before.
const (
	saidAgain = "the target may have lost writes, they are made again"
	saidDoubt = "the target may have lost writes that nobody remembers, its mappings are in doubt"
	saidNone  = "the target changed without losing anything"
)

// redisReturns ends Redis, brings it back, and waits until a leader has noticed.
func (r *run) redisReturns(end func() string) string {
	r.t.Helper()
	again, doubt, none := r.world.said(saidAgain), r.world.said(saidDoubt), r.world.said(saidNone)
	effect := end()
	r.rest(r.some(downMax))
	r.world.redis.Start()
	harness.Eventually(r.t, noticeIn, "a leader to notice that Redis is another one", func() error {
		r.tend()
		switch {
		case r.world.said(saidAgain) > again:
			effect += "; what may be lost was written again"
			r.report.Redelivered++
		case r.world.said(saidDoubt) > doubt:
			effect += "; all mappings are in doubt"
			r.report.Doubts++
		case r.world.said(saidNone) > none:
			effect += "; nothing was lost"
		default:
			return errSameLeader
		}
		return nil
	})
	return effect
}

func (r *run) killRedis() string {
	return r.redisReturns(func() string {
		r.world.redis.Kill()
		return "killed"
	})
}

// cutRedis kills Redis and cuts off what it wrote in the last moments. What was there is judged before.
func (r *run) cutRedis() string {
	return r.redisReturns(func() string {
		path, kept := r.world.tail()
		d := loseMin + r.some(loseMax-loseMin)
		r.rest(d)
		r.world.redis.Kill()
		_, size := r.world.tail()
		if size <= kept {
			r.complain("nothing was written to Redis in %s", d)
		}
		r.lives = append(r.lives, r.readLife(r.world.aof()))
		if err := os.Truncate(path, kept); err != nil {
			r.t.Fatal(err)
		}
		return fmt.Sprintf("the last %s, %d bytes, are lost", d.Round(time.Millisecond), size-kept)
	})
}

func (r *run) restartRedis() string {
	return r.redisReturns(func() string {
		r.world.redis.Stop()
		return "stopped in order"
	})
}

// restartRedisUnseen takes the leader and its memory away together with Redis: the next one knows nothing.
func (r *run) restartRedisUnseen() string {
	leader, before := r.leader()
	effect := r.redisReturns(func() string {
		leader.Kill()
		r.world.redis.Stop()
		return r.succeeded(before, leader)
	})
	leader.Start()
	r.world.c.AwaitReady(leader)
	return effect
}

func (r *run) stopRedis() string {
	d := r.stopFor()
	r.world.redis.Freeze()
	defer r.world.redis.Thaw()
	r.rest(d)
	return fmt.Sprintf("stood still for %s", d.Round(time.Millisecond))
}

// mysqlReturns ends the database and brings it back.
func (r *run) mysqlReturns(end func()) string {
	r.t.Helper()
	end()
	r.rest(r.some(downMax))
	began := time.Now()
	r.world.mysql.StartMySQL()
	harness.Eventually(r.t, harness.ReadyWithin, "the database to answer", func() error {
		_, err := r.world.db.ExecContext(r.t.Context(), flushEach)
		return err
	})
	return fmt.Sprintf("answers %s after it was started", time.Since(began).Round(time.Millisecond))
}

func (r *run) killMySQL() string    { return r.mysqlReturns(r.world.mysql.KillMySQL) }
func (r *run) restartMySQL() string { return r.mysqlReturns(r.world.mysql.StopMySQL) }

func (r *run) stopMySQL() string {
	d := r.stopFor()
	r.world.mysql.FreezeMySQL()
	defer r.world.mysql.ThawMySQL()
	r.rest(d)
	return fmt.Sprintf("stood still for %s", d.Round(time.Millisecond))
}
