package mysql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/go-sql-driver/mysql"
)

var (
	// ErrDSN means that the data source name cannot be used. It never holds the name itself.
	ErrDSN = errors.New("DSN invalid")
	// ErrUnreachable means that the server did not answer in time, or not at all. What was asked stays unknown.
	ErrUnreachable = errors.New("MySQL unreachable")
	// ErrDenied means that the account lacks a privilege or its password is wrong.
	ErrDenied = errors.New("MySQL access denied")
	// ErrNotPrimary means that the server that answered is read-only. What was asked stays unknown.
	ErrNotPrimary = errors.New("not the primary")
	// ErrTableChanged means that the table no longer is what the mapping was compiled against, or never was.
	ErrTableChanged = errors.New("table changed")
	// ErrBatchTooLarge means that the rows together exceed what one call may hold in memory. Ask for fewer.
	ErrBatchTooLarge = errors.New("batch too large")
)

// numbers gives the sentinel for the server's error numbers that have one.
var numbers = map[uint16]error{
	1049: ErrTableChanged, // unknown database
	1054: ErrTableChanged, // unknown column
	1146: ErrTableChanged, // no such table
	1044: ErrDenied,       // database
	1045: ErrDenied,       // password
	1142: ErrDenied,       // table
	1143: ErrDenied,       // column
	1698: ErrDenied,       // authentication plugin
	1290: ErrNotPrimary,   // a write, and the server runs with --read-only
	1836: ErrNotPrimary,   // a write, and the server is read-only
	1040: ErrUnreachable,  // too many connections
	1053: ErrUnreachable,  // shutdown in progress
	1129: ErrUnreachable,  // host blocked
	1203: ErrUnreachable,  // too many connections of this user
	1226: ErrUnreachable,  // resource limit of this user
	1927: ErrUnreachable,  // connection killed (MariaDB)
	1969: ErrUnreachable,  // statement time limit (MariaDB)
	3024: ErrUnreachable,  // statement time limit (MySQL)
}

// wrap names the source and classifies err. A caller that gave up gets its own context's error and no verdict on the server.
func (s *Source) wrap(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("source %s: %w", s.name, context.Cause(ctx))
	}
	if sentinel := classify(err); sentinel != nil {
		return fmt.Errorf("source %s: %w: %w", s.name, sentinel, err)
	}
	return fmt.Errorf("source %s: %w", s.name, err)
}

func classify(err error) error {
	if server, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return numbers[server.Number]
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return ErrUnreachable
	}
	for _, lost := range []error{driver.ErrBadConn, mysql.ErrInvalidConn, sql.ErrConnDone, io.EOF, io.ErrUnexpectedEOF, context.DeadlineExceeded} {
		if errors.Is(err, lost) {
			return ErrUnreachable
		}
	}
	return nil
}
