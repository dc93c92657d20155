package mysql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

const (
	dialTimeoutDefault    = 2 * time.Second
	queryTimeoutDefault   = 2 * time.Second
	connectionsMaxDefault = 8
	connectionsMaxMax     = 256
	connectionIdleMax     = time.Minute
	connectionLifeMax     = 5 * time.Minute // so that a moved name is followed although the old server still answers
)

// Config is one source. Zero limits mean the defaults: 2 s to connect, 2 s a call, 8 connections.
type Config struct {
	Name           string
	DSN            string // user:password@tcp(host:port)/database
	DialTimeout    time.Duration
	QueryTimeout   time.Duration
	ConnectionsMax int
}

// Source is one database on one primary.
type Source struct {
	name         string
	database     string
	address      string
	queryTimeout time.Duration
	readBytesMax int
	pool         *sql.DB
}

// Open checks the configuration and prepares the pool. It does not connect.
func Open(cfg Config) (*Source, error) { return openWith(cfg, nil) }

// openWith adds session variables to those that every session has.
func openWith(cfg Config, variables map[string]string) (*Source, error) {
	if cfg.DialTimeout <= 0 {
		cfg.DialTimeout = dialTimeoutDefault
	}
	if cfg.QueryTimeout <= 0 {
		cfg.QueryTimeout = queryTimeoutDefault
	}
	if cfg.ConnectionsMax <= 0 {
		cfg.ConnectionsMax = connectionsMaxDefault
	}
	cfg.ConnectionsMax = min(cfg.ConnectionsMax, connectionsMaxMax)
	session, err := parseDSN(cfg)
	if err != nil {
		return nil, fmt.Errorf("source %s: %w", cfg.Name, err)
	}
	maps.Copy(session.Params, variables)
	connect, err := mysql.NewConnector(session)
	if err != nil {
		return nil, fmt.Errorf("source %s: %w: the driver refuses it", cfg.Name, ErrDSN)
	}
	pool := sql.OpenDB(isolated{connect})
	pool.SetMaxOpenConns(cfg.ConnectionsMax)
	pool.SetMaxIdleConns(cfg.ConnectionsMax)
	pool.SetConnMaxIdleTime(connectionIdleMax)
	pool.SetConnMaxLifetime(connectionLifeMax)
	return &Source{name: cfg.Name, database: session.DBName, address: session.Addr, queryTimeout: cfg.QueryTimeout, readBytesMax: readBytesMaxDefault, pool: pool}, nil
}

// parseDSN fixes everything of the session that decides how a value is printed. It withholds the driver's own error, which may quote a piece of the DSN.
func parseDSN(cfg Config) (*mysql.Config, error) {
	session, err := mysql.ParseDSN(cfg.DSN)
	if err != nil {
		return nil, fmt.Errorf("%w: it must read user:password@tcp(host:port)/database", ErrDSN)
	}
	if session.DBName == "" {
		return nil, fmt.Errorf("%w: it names no database", ErrDSN)
	}
	for variable := range session.Params {
		return nil, fmt.Errorf("%w: it sets %q, but a source's session is fixed so that every node reads the same text", ErrDSN, variable)
	}
	if err := session.Apply(mysql.Charset("utf8mb4", "")); err != nil {
		return nil, fmt.Errorf("%w: charset", ErrDSN)
	}
	session.Collation = ""
	session.InterpolateParams = true // the text protocol, always: the binary one prints floats and times differently
	session.ParseTime = false
	session.MultiStatements = false
	session.AllowAllFiles = false
	session.ColumnsWithAlias = false
	session.Timeout = cfg.DialTimeout
	session.ReadTimeout = cfg.QueryTimeout
	session.WriteTimeout = cfg.QueryTimeout
	session.Logger = &mysql.NopLogger{} // what it would print is in the returned errors
	session.Params = map[string]string{
		"autocommit": "1",
		"time_zone":  "'+00:00'",
		"sql_mode":   "'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION'", // PAD_CHAR_TO_FULL_LENGTH and ANSI_QUOTES change what is read
	}
	return session, nil
}

// isolated sets the isolation level of each new connection. It is a statement of its own, for the variable's name differs between MySQL and MariaDB. So is what only Galera has.
type isolated struct{ driver.Connector }

func (c isolated) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	session, ok := conn.(driver.ExecerContext)
	if !ok {
		conn.Close()
		return nil, fmt.Errorf("driver connection %T cannot execute", conn)
	}
	if _, err := session.ExecContext(ctx, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", nil); err != nil {
		conn.Close()
		return nil, err
	}
	// On a Galera node a read waits for what the cluster has committed before it: another node's commit is not yet here otherwise, and its event is already on its way.
	if _, err := session.ExecContext(ctx, "SET SESSION wsrep_sync_wait = 1", nil); err != nil && !unknownVariable(err) {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

const errorUnknownVariable = 1193

// unknownVariable tells a server that has never heard of a session variable.
func unknownVariable(err error) bool {
	server, ok := errors.AsType[*mysql.MySQLError](err)
	return ok && server.Number == errorUnknownVariable
}

// Close ends the pool. Calls in progress fail.
func (s *Source) Close() error { return s.pool.Close() }

// Name returns the configured name.
func (s *Source) Name() string { return s.name }

// Where names the server and the database, without the account: two sources that lead to the same place say the same.
func (s *Source) Where() string { return s.address + "/" + s.database }

// Identity is who answered.
type Identity struct {
	Flavour  string `json:"flavour"` // mysql or mariadb
	Version  string `json:"version"`
	ServerID uint64 `json:"server_id"`
	UUID     string `json:"uuid,omitempty"` // server_uuid, on MariaDB server_uid where it has one
	ReadOnly bool   `json:"read_only"`
	Database string `json:"database"`
}

const (
	flavourMySQL   = "mysql"
	flavourMariaDB = "mariadb"
)

// Identity asks the server who it is.
func (s *Source) Identity(ctx context.Context) (Identity, error) {
	bounded, cancel := context.WithTimeout(ctx, s.queryTimeout)
	defer cancel()
	id := Identity{Flavour: flavourMySQL, Database: s.database}
	var readOnly string
	err := s.pool.QueryRowContext(bounded, "SELECT @@version, @@server_id, @@global.read_only").Scan(&id.Version, &id.ServerID, &readOnly)
	if err != nil {
		return Identity{}, s.wrap(ctx, err)
	}
	id.ReadOnly = !writable(readOnly)
	if strings.Contains(strings.ToLower(id.Version), flavourMariaDB) {
		id.Flavour = flavourMariaDB
	}
	// By pattern and not by name: asking for a variable that the flavour lacks would be an error.
	var name string
	err = s.pool.QueryRowContext(bounded, "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('server_uuid', 'server_uid')").Scan(&name, &id.UUID)
	if err != nil && err != sql.ErrNoRows {
		return Identity{}, s.wrap(ctx, err)
	}
	return id, nil
}

// writable reads @@global.read_only, which is 0 or 1, and in newer MariaDB a word.
func writable(readOnly string) bool { return readOnly == "0" || readOnly == "OFF" }
