package services

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// Instance is a pair of servers that one test owns and may stop. Addresses stay the same across stops and starts. Its
// methods end the test when they fail, so they belong on the test's own goroutine.
type Instance struct {
	MySQLDSN      string // an empty database that the pair was started with
	MySQLAdminDSN string // the same server and account without a database
	RedisAddr     string
	Dir           string // the pair's folder, with its logs

	t testing.TB
}

// Own starts a pair for t alone and ends it in t's cleanup.
func Own(t testing.TB) *Instance {
	t.Helper()
	// Not t.TempDir: its long names leave no room for a socket's path, and its removal would race with a dying server.
	dir, err := os.MkdirTemp("", "quiesce-own-")
	if err != nil {
		t.Fatalf("folder for the test's servers: %v", err)
	}
	instance := &Instance{Dir: dir, t: t}
	t.Cleanup(func() { instance.run("down") })
	instance.run("up")
	pair, err := readDescription(filepath.Join(dir, descriptionFile))
	if err != nil {
		t.Fatalf("servers for the test: %v", err)
	}
	instance.MySQLDSN = pair.dsn(pair.MySQL.Database)
	instance.MySQLAdminDSN = pair.dsn("")
	instance.RedisAddr = pair.Redis.Addr
	return instance
}

// StopRedis asks Redis to end and waits for it. It keeps nothing on disk.
func (i *Instance) StopRedis() { i.t.Helper(); i.run("stop-redis") }

// KillRedis ends Redis with SIGKILL.
func (i *Instance) KillRedis() { i.t.Helper(); i.run("kill-redis") }

// StartRedis starts an empty Redis on the same address, unless it runs.
func (i *Instance) StartRedis() { i.t.Helper(); i.run("start-redis") }

// StopMySQL asks the database to end and waits for it.
func (i *Instance) StopMySQL() { i.t.Helper(); i.run("stop-mysql") }

// KillMySQL ends the database with SIGKILL. What was committed stays.
func (i *Instance) KillMySQL() { i.t.Helper(); i.run("kill-mysql") }

// StartMySQL starts the database on the same address with the same data, unless it runs.
func (i *Instance) StartMySQL() { i.t.Helper(); i.run("start-mysql") }

// FreezeMySQL stops the process of the database until ThawMySQL: its connections stay.
func (i *Instance) FreezeMySQL() { i.t.Helper(); i.signalMySQL(syscall.SIGSTOP) }

// ThawMySQL has a frozen database go on.
func (i *Instance) ThawMySQL() { i.t.Helper(); i.signalMySQL(syscall.SIGCONT) }

func (i *Instance) signalMySQL(s syscall.Signal) {
	i.t.Helper()
	pair, err := readDescription(filepath.Join(i.Dir, descriptionFile))
	if err == nil && pair.MySQL.PID == 0 {
		err = os.ErrProcessDone
	}
	if err == nil {
		err = syscall.Kill(pair.MySQL.PID, s)
	}
	if err != nil {
		i.t.Fatalf("%s to the database: %v", s, err)
	}
}

func (i *Instance) run(command string) {
	i.t.Helper()
	if _, err := runScript(i.t, command, i.Dir); err != nil {
		i.t.Fatalf("%s: %v", command, err)
	}
}
