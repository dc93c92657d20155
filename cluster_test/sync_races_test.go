package cluster_test

import (
	"database/sql"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/cluster_test/harness"
	"github.com/quiescehq/quiesce/cluster_test/services"
)

const (
	raceRows     = 20
	deadlineOver = 6 * time.Second // a write that began longer ago is refused by Redis
)

// hold is a connection that keeps every reader of the table waiting, so that a delivery stands between its begin and its write.
func (w *table) hold() *sql.Conn {
	w.t.Helper()
	conn, err := w.db.Conn(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() }) // ends the lock too
	w.on(conn, "LOCK TABLES items WRITE")
	return conn
}

func (w *table) on(conn *sql.Conn, statement string) {
	w.t.Helper()
	if _, err := conn.ExecContext(w.t.Context(), statement); err != nil {
		w.t.Fatalf("%s: %v", statement, err)
	}
}

// awaitReader waits until a delivery's read waits for the table.
func (w *table) awaitReader() {
	w.t.Helper()
	harness.Eventually(w.t, settleMax, "a delivery to read", func() error {
		var n int
		err := w.db.QueryRowContext(w.t.Context(), `SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() AND state LIKE 'Waiting for table%' AND info LIKE '%items%'`).Scan(&n)
		if err == nil && n == 0 {
			err = fmt.Errorf("%w: nobody waits", errOther)
		}
		return err
	})
}

// raceTable is a cluster whose cache agrees with its table.
func raceTable(t *testing.T, redisAddr func(services.Services) string, o harness.Options) *table {
	t.Helper()
	place := services.Require(t)
	w := newTable(t, place.MySQLDSN, place.RedisAddr, place.Prefix)
	o.MySQL, o.Redis = place.MySQLDSN, redisAddr(place)
	w.declare(harness.Start(t, o))
	for id := range int64(raceRows) {
		w.put(id, "first")
	}
	w.tell()
	w.settle(nil)
	return w
}

// tell sends an event for each row.
func (w *table) tell() {
	w.t.Helper()
	var ids []int64
	for id := range int64(raceRows) {
		ids = append(ids, id)
	}
	w.c.Must(harness.Request{Method: http.MethodPost, Path: "/v1/outbox/events", Body: events(ids...)}, nil)
}

// The leader has written to Redis and is killed before its followers hear of it. The next leader knows nothing of what was written, delivers it once more, and Redis answers
// that it has it.
func TestSync_LeaderKilledBetweenWriteAndAcknowledgement(t *testing.T) {
	t.Parallel()
	w := raceTable(t, func(p services.Services) string { return p.RedisAddr }, harness.Options{Links: true, Settings: map[string]string{"election_timeout": "2s"}})
	holding := w.hold()
	w.on(holding, "UPDATE items SET name = 'second'")
	w.tell()
	w.awaitReader()
	leader := w.c.Leader()
	for _, n := range w.c.Others(leader) {
		w.c.Links.Stall(leader.ID, n.ID)
	}
	w.on(holding, "UNLOCK TABLES")
	harness.Eventually(t, settleMax, "the leader to write", func() error {
		for id := range int64(raceRows) {
			if held := w.redisGet(w.key(id)); !strings.Contains(held, "second") {
				return fmt.Errorf("%w: %s", errOther, held)
			}
		}
		return nil
	})
	leader.Kill()
	w.c.AwaitStatus("another leader", func(s api.Cluster) bool { return s.Leader != "" && s.Leader != leader.ID })
	w.c.Links.HealAll() // not before: the links would hand on what the dead one had sent
	w.settle(nil)
	if stats := w.stats(); superseded(stats, mappingJSON) != raceRows {
		t.Errorf("the next leader found %d of %d writes done, so the first one did not die in between: %+v", superseded(stats, mappingJSON), raceRows, stats)
	}
	leader.Start()
	w.c.AwaitReady(leader)
	w.c.AwaitSameState()
}

// superseded is how often Redis had a mapping's write already, as the leader counts.
func superseded(stats api.OutboxStats, mapping string) uint64 {
	for _, m := range stats.Mappings {
		if m.Mapping == mapping {
			return m.Superseded
		}
	}
	return 0
}

// A leader is stopped when its write is on its way to Redis. Another one leads, the row changes and is delivered, and the guards that order the two are gone, as after an
// eviction. Then the old write arrives, and after it the old leader goes on. Only the deadline is left to refuse it, and that is Redis' own.
func TestSync_StoppedLeadersWriteArrivesAfterItsDeadline(t *testing.T) {
	t.Parallel()
	var way *slowWay
	w := raceTable(t, func(p services.Services) string {
		way = newSlowWay(t, p.RedisAddr)
		return way.addr
	}, harness.Options{})
	holding := w.hold()
	w.on(holding, "UPDATE items SET name = 'second'")
	w.tell()
	w.awaitReader()
	began := time.Now()
	leader := w.c.Leader()
	way.hold()
	w.on(holding, "UNLOCK TABLES")
	harness.Eventually(t, settleMax, "the leader's write to be on its way", func() error {
		if !way.holds(w.key(0)) {
			return fmt.Errorf("%w: it is not", errOther)
		}
		return nil
	})
	leader.Pause()
	w.c.AwaitStatus("another leader", func(s api.Cluster) bool { return s.Leader != "" && s.Leader != leader.ID })
	w.exec("UPDATE items SET name = 'third'")
	w.tell()
	w.settle(nil)
	for id := range int64(raceRows) {
		w.redisDo("DEL", "qg:{"+w.key(id)+"}", "qg:{"+w.hashKey(id)+"}")
	}
	harness.Eventually(t, settleMax, "the deadline to pass", func() error {
		if since := time.Since(began); since < deadlineOver {
			return fmt.Errorf("%w: %v have passed", errOther, since)
		}
		return nil
	})
	way.release()
	harness.Eventually(t, settleMax, "Redis to answer the late write", way.answered)
	w.compare()
	leader.Resume()
	w.c.AwaitReady(leader)
	w.c.AwaitWhole()
	w.settle(nil)
	w.c.AwaitSameState()
}

// slowWay is a way to a server that can hold what is sent over the connections that it has. New ones are not held.
type slowWay struct {
	addr  string
	group sync.WaitGroup

	mu    sync.Mutex
	conns map[*slowConn]struct{}
}

type slowConn struct {
	client, server net.Conn
	gate           chan struct{} // nil: nothing is held
	held           []byte        // what waits
	waits, replied bool          // since the release
}

func newSlowWay(t *testing.T, server string) *slowWay {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &slowWay{addr: listener.Addr().String(), conns: map[*slowConn]struct{}{}}
	w.group.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // closed
			}
			c := &slowConn{client: client}
			if c.server, err = net.Dial("tcp", server); err != nil {
				_ = client.Close()
				continue
			}
			w.mu.Lock()
			w.conns[c] = struct{}{}
			w.mu.Unlock()
			w.group.Go(func() { w.send(c) })
			w.group.Go(func() { w.receive(c) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		w.release()
		w.mu.Lock()
		for c := range w.conns {
			_, _ = c.client.Close(), c.server.Close()
		}
		w.mu.Unlock()
		w.group.Wait()
	})
	return w
}

// send hands on what the client sends. What is held goes on even if the client has gone meanwhile: a packet that is on its way does not come back.
func (w *slowWay) send(c *slowConn) {
	chunk := make([]byte, 64<<10)
	for {
		n, err := c.client.Read(chunk)
		w.mu.Lock()
		gate := c.gate
		if gate != nil {
			c.held, c.waits = append(c.held, chunk[:n]...), true
		}
		w.mu.Unlock()
		if gate != nil {
			<-gate
		}
		if _, gone := c.server.Write(chunk[:n]); err != nil || gone != nil {
			if half, ok := c.server.(*net.TCPConn); ok {
				_ = half.CloseWrite() // the server answers what it has
			}
			return
		}
	}
}

func (w *slowWay) receive(c *slowConn) {
	chunk := make([]byte, 64<<10)
	for {
		n, err := c.server.Read(chunk)
		w.mu.Lock()
		if c.waits && c.gate == nil {
			c.replied = true
		}
		w.mu.Unlock()
		_, _ = c.client.Write(chunk[:n]) // the client may be gone
		if err != nil {
			_, _ = c.client.Close(), c.server.Close()
			return
		}
	}
}

func (w *slowWay) hold() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.conns {
		c.gate = make(chan struct{})
	}
}

func (w *slowWay) release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.conns {
		if c.gate != nil {
			close(c.gate)
			c.gate = nil
		}
	}
}

// holds tells whether something with that text is held.
func (w *slowWay) holds(text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.conns {
		if strings.Contains(string(c.held), text) {
			return true
		}
	}
	return false
}

// answered is nil when everything that was held has its answer.
func (w *slowWay) answered() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.conns {
		if c.waits && !c.replied {
			return fmt.Errorf("%w: %d bytes have no answer", errOther, len(c.held))
		}
	}
	return nil
}
