package mysql

import (
	"database/sql"

	"github.com/quiescehq/quiesce/mapping"
)

var (
	SelectRows   = selectRows
	SelectOutbox = selectOutbox
)

// SelectChunk is the statement for the rows of a part after a place.
func SelectChunk(m *mapping.Mapping, part Part, after []string, limit int) string {
	return selectChunk(m, whereOf(part.bounds(m, after)), limit)
}

// SelectPlace is the statement for the n-th of them.
func SelectPlace(m *mapping.Mapping, part Part, after []string, n int) string {
	return selectPlace(m, whereOf(part.bounds(m, after)), n)
}

// Pool gives tests the very sessions that reads use.
func (s *Source) Pool() *sql.DB { return s.pool }

// SetReadBytesMax lets tests reach the limit without moving 64 MiB.
func (s *Source) SetReadBytesMax(n int) { s.readBytesMax = n }
