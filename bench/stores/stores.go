// Package stores starts the database and the cache that a run works on, as scripts/services.sh starts them for the tests.
//
// # Ownership
//
// Whoever starts them closes them, also after an interrupt: Close ends the servers.
//
// # Not here
//
// Tables and keys: the commands make theirs.
package stores

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

const (
	scriptMax      = 5 * time.Minute
	connectionsMax = 64
)

// Pair is one MySQL or MariaDB and one Redis.
type Pair struct {
	DSN       string
	RedisAddr string
	DB        *sql.DB
	Cache     *redis.Client

	script, dir string
}

// Start starts them in a folder. The root is that of the sources.
func Start(ctx context.Context, root, dir string) (_ *Pair, err error) {
	p := &Pair{script: filepath.Join(root, "scripts", "services.sh"), dir: dir}
	if err := p.run(ctx, "up"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	told, err := p.describe()
	if err != nil {
		return nil, err
	}
	p.DSN, p.RedisAddr = told.MySQL.DSN, told.Redis.Addr
	if p.DB, err = sql.Open("mysql", p.DSN); err != nil {
		return nil, err
	}
	p.DB.SetMaxOpenConns(connectionsMax)
	p.DB.SetMaxIdleConns(connectionsMax)
	p.Cache = redis.NewClient(&redis.Options{Addr: p.RedisAddr, PoolSize: connectionsMax, Protocol: 2, ReadTimeout: time.Minute})
	return p, p.Cache.Ping(ctx).Err()
}

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

func (p *Pair) describe() (d description, err error) {
	text, err := os.ReadFile(filepath.Join(p.dir, "services.json"))
	if err == nil {
		err = json.Unmarshal(text, &d)
	}
	return d, err
}

func (p *Pair) run(ctx context.Context, command string) error {
	ctx, cancel := context.WithTimeout(ctx, scriptMax)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "bash", p.script, command, p.dir).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", p.script, command, err, out)
	}
	return nil
}

// MySQLPID and RedisPID are those of the servers now.
func (p *Pair) MySQLPID() int { return p.pid(func(d description) int { return d.MySQL.PID }) }
func (p *Pair) RedisPID() int { return p.pid(func(d description) int { return d.Redis.PID }) }

func (p *Pair) pid(of func(description) int) int {
	told, err := p.describe()
	if err != nil {
		return 0
	}
	return of(told)
}

// KillRedis ends Redis as kill -9 does. StartRedis brings it back at its address, empty.
func (p *Pair) KillRedis(ctx context.Context) error  { return p.run(ctx, "kill-redis") }
func (p *Pair) StartRedis(ctx context.Context) error { return p.run(ctx, "start-redis") }

// Exec runs a statement and names it where it fails.
func (p *Pair) Exec(ctx context.Context, statement string, args ...any) error {
	if _, err := p.DB.ExecContext(ctx, statement, args...); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

// Close ends the servers.
func (p *Pair) Close() error {
	var errs []error
	if p.DB != nil {
		errs = append(errs, p.DB.Close())
	}
	if p.Cache != nil {
		errs = append(errs, p.Cache.Close())
	}
	return errors.Join(append(errs, p.run(context.Background(), "down"))...)
}
