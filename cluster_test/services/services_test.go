package services_test

import (
	"bufio"
	"database/sql"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/cluster_test/services"
)

const (
	answerTimeout = 5 * time.Second
)

func TestRequire_TestsShareServersButNoDatabaseAndNoPrefix(t *testing.T) {
	t.Parallel()
	one, two := services.Require(t), services.Require(t)
	if one.RedisAddr != two.RedisAddr || one.MySQLAdminDSN != two.MySQLAdminDSN {
		t.Errorf("two tests got different servers: %+v, %+v", one, two)
	}
	if one.MySQLDSN == two.MySQLDSN || one.Prefix == two.Prefix {
		t.Errorf("two tests got the same place: %+v, %+v", one, two)
	}
	execute(t, one.MySQLDSN, "CREATE TABLE only_one (id BIGINT PRIMARY KEY)")
	if got := count(t, two.MySQLDSN, "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE()"); got != 0 {
		t.Errorf("a fresh database holds %d tables", got)
	}
	if got := redis(t, two.RedisAddr, "PING"); got != "+PONG" {
		t.Errorf("PING answered %q", got)
	}
}

func TestRequire_DatabaseIsDroppedWithItsTest(t *testing.T) {
	t.Parallel()
	outer := services.Require(t)
	var inner services.Services
	t.Run("inner", func(t *testing.T) { inner = services.Require(t) })
	name := strings.TrimSuffix(inner.Prefix, ":")
	query := "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = '" + name + "'"
	if got := count(t, outer.MySQLDSN, query); got != 0 {
		t.Errorf("%s outlived its test", name)
	}
}

func TestRequire_ServerIsSetAsTheProductNeeds(t *testing.T) {
	t.Parallel()
	place := services.Require(t)
	got := count(t, place.MySQLDSN, "SELECT COUNT(*) FROM DUAL WHERE @@log_bin = 1 AND @@binlog_format = 'ROW' AND @@server_id = 1 AND @@read_only = 0")
	if got != 1 {
		t.Error("the binary log is off or not in row form, or the server is read-only")
	}
}

func TestOwn_StoppedServersComeBackAtTheirAddress(t *testing.T) {
	t.Parallel()
	pair := services.Own(t)
	execute(t, pair.MySQLDSN, "CREATE TABLE kept (id BIGINT PRIMARY KEY)")
	execute(t, pair.MySQLDSN, "INSERT INTO kept VALUES (1)")
	redis(t, pair.RedisAddr, "SET lost 1")

	for _, stop := range []struct {
		name         string
		redis, mysql func()
	}{{"SIGTERM", pair.StopRedis, pair.StopMySQL}, {"SIGKILL", pair.KillRedis, pair.KillMySQL}} {
		stop.redis()
		stop.mysql()
		if _, err := net.DialTimeout("tcp", pair.RedisAddr, answerTimeout); err == nil {
			t.Errorf("Redis answers after %s", stop.name)
		}
		if err := tryExecute(pair.MySQLDSN, "DO 1"); err == nil {
			t.Errorf("MySQL answers after %s", stop.name)
		}
		pair.StartRedis()
		pair.StartMySQL()
		if got := redis(t, pair.RedisAddr, "GET lost"); got != "$-1" {
			t.Errorf("Redis kept a key across %s: %q", stop.name, got)
		}
		if got := count(t, pair.MySQLDSN, "SELECT COUNT(*) FROM kept"); got != 1 {
			t.Errorf("MySQL holds %d rows after %s, want 1", got, stop.name)
		}
	}
}

func TestOwn_FrozenDatabaseAnswersNobodyUntilItIsThawed(t *testing.T) {
	t.Parallel()
	pair := services.Own(t)
	pair.FreezeMySQL()
	err := tryExecute(pair.MySQLDSN+"?timeout=300ms&readTimeout=300ms", "DO 1")
	pair.ThawMySQL()
	if err == nil {
		t.Error("a frozen database answers")
	}
	execute(t, pair.MySQLDSN, "DO 1")
}

func TestOwn_NothingIsLeftBehind(t *testing.T) {
	t.Parallel()
	var pair *services.Instance
	var pids []string
	t.Run("owner", func(t *testing.T) {
		pair = services.Own(t)
		for _, server := range []string{"redis", "mysql"} {
			pid, err := os.ReadFile(filepath.Join(pair.Dir, server+".pid"))
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, strings.TrimSpace(string(pid)))
		}
		pair.KillRedis()
	})
	if _, err := os.Stat(pair.Dir); !os.IsNotExist(err) {
		t.Errorf("the folder is still there: %v", err)
	}
	for _, pid := range pids {
		if state := processState(pid); state != "" {
			t.Errorf("process %s is still there in state %s", pid, state)
		}
	}
}

// processState is empty for a process that is gone or only waits to be reaped.
func processState(pid string) string {
	text, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	state, _, _ := strings.Cut(rest, " ")
	if state == "Z" {
		return ""
	}
	return state
}

func tryExecute(dsn, statement string) error {
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }() // the statement's error is the answer
	_, err = db.Exec(statement)
	return err
}

func execute(t *testing.T, dsn, statement string) {
	t.Helper()
	if err := tryExecute(dsn, statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func count(t *testing.T, dsn, query string) (n int) {
	t.Helper()
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }() // read only
	if err := db.QueryRow(query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// redis sends one inline command and returns the first line of the answer.
func redis(t *testing.T, addr, command string) string {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, answerTimeout)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }() // the answer was read
	if err := conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(conn, "%s\r\n", command); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimRight(line, "\r\n")
}
