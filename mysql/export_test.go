package mysql

import "database/sql"

var (
	SelectRows  = selectRows
	SelectChunk = selectChunk

	SelectOutbox = selectOutbox
)

// Pool gives tests the very sessions that reads use.
func (s *Source) Pool() *sql.DB { return s.pool }

// SetReadBytesMax lets tests reach the limit without moving 64 MiB.
func (s *Source) SetReadBytesMax(n int) { s.readBytesMax = n }
