package services

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

const (
	// EnvDescription names the file that describes the pair to share.
	EnvDescription = "QUIESCE_TEST_SERVICES"

	statementTimeout = 30 * time.Second
	dialTimeout      = 3 * time.Second
	nameBytes        = 6
)

var errStale = errors.New("the description names servers that do not answer")

// Services is a test's place on a shared pair of servers.
type Services struct {
	MySQLDSN      string // go-sql-driver form; an empty database of this test's own, dropped in its cleanup
	MySQLAdminDSN string // the same server and account without a database; the account may do everything
	RedisAddr     string // host:port; keep every key below Prefix
	Prefix        string // this test's own, ends with a colon

	RedisCommand []string // how the shared Redis was started, up to its arguments: for tests that need one with options of their own
}

// Require gives t a place on the shared pair, which it starts if nobody did, and fails t if there can be none.
func Require(t testing.TB) Services {
	t.Helper()
	pair, err := sharedPair(t)
	if err != nil {
		t.Fatalf("servers for the test: %v", err)
	}
	name := "q_" + randomName(t)
	createDatabase(t, pair, name)
	return Services{
		MySQLDSN:      pair.dsn(name),
		MySQLAdminDSN: pair.dsn(""),
		RedisAddr:     pair.Redis.Addr,
		Prefix:        name + ":",
		RedisCommand:  pair.Redis.Command,
	}
}

// sharedPair finds the pair, or starts it. Starting is safe from many processes at once: the script holds a lock on the
// folder and leaves running what runs.
func sharedPair(t testing.TB) (description, error) {
	t.Helper()
	if path := os.Getenv(EnvDescription); path != "" {
		pair, err := readDescription(path)
		if err == nil {
			err = pair.answers()
		}
		if err != nil {
			return description{}, fmt.Errorf("%s=%s: %w", EnvDescription, path, err)
		}
		return pair, nil
	}
	folder, err := runScript(t, "shared-dir")
	if err != nil {
		return description{}, err
	}
	path := filepath.Join(folder, descriptionFile)
	if pair, err := readDescription(path); err == nil && pair.answers() == nil {
		return pair, nil
	}
	if _, err := runScript(t, "up", folder); err != nil {
		return description{}, err
	}
	pair, err := readDescription(path)
	if err != nil {
		return description{}, err
	}
	return pair, pair.answers()
}

// description is services.json, as scripts/services.sh writes it.
type description struct {
	MySQL struct {
		Host     string `json:"host"`
		Port     int    `json:"port"`
		User     string `json:"user"`
		Password string `json:"password"`
		Database string `json:"database"`
		Socket   string `json:"socket"`
		PID      int    `json:"pid"`
	} `json:"mysql"`
	Redis struct {
		Addr    string   `json:"addr"`
		PID     int      `json:"pid"`
		Command []string `json:"command"`
	} `json:"redis"`
}

const descriptionFile = "services.json"

func readDescription(path string) (description, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return description{}, fmt.Errorf("read the servers' description: %w", err)
	}
	var pair description
	if err := json.Unmarshal(text, &pair); err != nil {
		return description{}, fmt.Errorf("read the servers' description %s: %w", path, err)
	}
	return pair, nil
}

// answers logs on to MySQL, for a stranger may sit on a dead server's port; no stranger knows the password. Redis has
// none, but both servers are started and ended together.
func (d description) answers() error {
	conn, err := net.DialTimeout("tcp", d.Redis.Addr, dialTimeout)
	if err != nil {
		return fmt.Errorf("%w: redis: %w", errStale, err)
	}
	if err := conn.Close(); err != nil {
		return fmt.Errorf("%w: redis: %w", errStale, err)
	}
	if err := d.execute("DO 1"); err != nil {
		return fmt.Errorf("%w: mysql: %w", errStale, err)
	}
	return nil
}

func (d description) dsn(database string) string {
	config := mysql.NewConfig()
	config.User, config.Passwd = d.MySQL.User, d.MySQL.Password
	config.Net, config.Addr = "tcp", fmt.Sprintf("%s:%d", d.MySQL.Host, d.MySQL.Port)
	config.DBName = database
	return config.FormatDSN()
}

// execute runs one statement on a connection of its own, so that no pool outlives a call.
func (d description) execute(statement string) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), statementTimeout)
	defer cancel()
	db, err := sql.Open("mysql", d.dsn(""))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	_, err = db.ExecContext(ctx, statement)
	return err
}

func createDatabase(t testing.TB, pair description, name string) {
	t.Helper()
	if err := pair.execute("CREATE DATABASE " + name + " CHARACTER SET utf8mb4"); err != nil {
		t.Fatalf("create the test's database: %v", err)
	}
	t.Cleanup(func() {
		if err := pair.execute("DROP DATABASE IF EXISTS " + name); err != nil {
			t.Errorf("drop the test's database: %v", err)
		}
	})
}

func randomName(t testing.TB) string {
	t.Helper()
	var name [nameBytes]byte
	if _, err := rand.Read(name[:]); err != nil {
		t.Fatalf("random name: %v", err)
	}
	return hex.EncodeToString(name[:])
}
