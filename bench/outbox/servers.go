package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	_ "github.com/go-sql-driver/mysql" // the driver of database/sql
	"github.com/redis/go-redis/v9"
)

const scriptMax = 5 * time.Minute

// servers are the database and the cache of a whole run, as scripts/services.sh starts them.
type servers struct {
	script, dir string
	dsn         string
	redisAddr   string
	mysqlPID    int
	db          *sql.DB
	cache       *redis.Client
}

func startServers(ctx context.Context, root, dir string) (_ *servers, err error) {
	s := &servers{script: filepath.Join(root, "scripts", "services.sh"), dir: dir}
	if err := s.run(ctx, "up"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	told, err := s.describe()
	if err != nil {
		return nil, err
	}
	s.dsn, s.redisAddr, s.mysqlPID = told.MySQL.DSN, told.Redis.Addr, told.MySQL.PID
	if s.db, err = sql.Open("mysql", s.dsn); err != nil {
		return nil, err
	}
	s.db.SetMaxOpenConns(connectionsMax)
	s.db.SetMaxIdleConns(connectionsMax)
	s.cache = redis.NewClient(&redis.Options{Addr: s.redisAddr, PoolSize: connectionsMax})
	return s, s.cache.Ping(ctx).Err()
}

const connectionsMax = 64

type description struct {
	MySQL struct {
		DSN string `json:"dsn"`
		PID int    `json:"pid"`
	} `json:"mysql"`
	Redis struct {
		Addr string `json:"addr"`
		PID  int    `json:"pid"`
	} `json:"redis"`
}

func (s *servers) describe() (d description, err error) {
	text, err := os.ReadFile(filepath.Join(s.dir, "services.json"))
	if err == nil {
		err = json.Unmarshal(text, &d)
	}
	return d, err
}

func (s *servers) run(ctx context.Context, command string) error {
	ctx, cancel := context.WithTimeout(ctx, scriptMax)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "bash", s.script, command, s.dir).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", s.script, command, err, out)
	}
	return nil
}

// pids of the servers. Redis may have been started anew.
func (s *servers) pids() []int {
	told, err := s.describe()
	if err != nil {
		return nil
	}
	return []int{told.MySQL.PID, told.Redis.PID}
}

// Close ends the servers, also when the run was interrupted.
func (s *servers) Close() error {
	var errs []error
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	if s.cache != nil {
		errs = append(errs, s.cache.Close())
	}
	return errors.Join(append(errs, s.run(context.Background(), "down"))...)
}

func (s *servers) exec(ctx context.Context, statement string, args ...any) error {
	if _, err := s.db.ExecContext(ctx, statement, args...); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

// fill makes the table anew with rows 1 to n: a few of its own, and then copies of them all, again and again.
func (s *servers) fill(ctx context.Context, n int) error {
	for _, statement := range []string{"DROP TABLE IF EXISTS items", itemsTable, `INSERT INTO items VALUES (1, 'Wrench, "10 mm"', 7, 12.50, 'in the drawer below the bench, beside the others; do not lend', '2026-01-02 03:04:05.678', NULL)`} {
		if err := s.exec(ctx, statement); err != nil {
			return err
		}
	}
	for have := 1; have < n; {
		more := min(have, n-have, copyRows)
		if err := s.exec(ctx, "INSERT INTO items SELECT id + ?, CONCAT('Wrench, \"', id, ' mm\"'), n + 1, price + 0.25, note, changed, weight FROM items WHERE id <= ?", have, more); err != nil {
			return err
		}
		have += more
	}
	return s.exec(ctx, "ANALYZE TABLE items")
}

const (
	copyRows   = 1 << 17
	itemsTable = `CREATE TABLE items (id BIGINT NOT NULL PRIMARY KEY, name VARCHAR(64) NOT NULL, n INT NOT NULL, price DECIMAL(10,2) NOT NULL, note VARCHAR(200) NOT NULL,
  changed DATETIME(3) NOT NULL, weight DOUBLE NULL) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4`
)
