package mysql

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/quiescehq/quiesce/mapping"
)

const columnsMax = 4_096 // MySQL's own limit

// Columns describes a table of the source's database. A table that does not exist, or that the account may not see, is [ErrTableChanged].
func (s *Source) Columns(ctx context.Context, table string) ([]mapping.Column, error) {
	bounded, cancel := context.WithTimeout(ctx, s.queryTimeout)
	defer cancel()
	columns, err := s.columns(bounded, table)
	if err != nil {
		return nil, s.wrap(ctx, err)
	}
	if len(columns) == 0 {
		return nil, fmt.Errorf("source %s: %w: database %q has no table %q that this account may see", s.name, ErrTableChanged, s.database, table)
	}
	parts, err := s.keyParts(bounded, table)
	if err != nil {
		return nil, s.wrap(ctx, err)
	}
	json, err := s.jsonColumns(bounded, table)
	if err != nil {
		return nil, s.wrap(ctx, err)
	}
	for i := range columns {
		columns[i].KeyPart = parts[columns[i].Name]
		if json[columns[i].Name] {
			columns[i].Kind = mapping.KindJSON
		}
	}
	return columns, nil
}

func (s *Source) columns(ctx context.Context, table string) ([]mapping.Column, error) {
	rows, err := s.pool.QueryContext(ctx, `SELECT COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE, IFNULL(COLLATION_NAME, '') FROM information_schema.COLUMNS
		WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION LIMIT ?`, s.database, table, columnsMax)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var columns []mapping.Column
	for rows.Next() {
		var name, columnType, nullable, collation string
		if err := rows.Scan(&name, &columnType, &nullable, &collation); err != nil {
			return nil, err
		}
		c := mapping.NewColumn(name, columnType, nullable == "YES")
		c.Collation = collation
		columns = append(columns, c)
	}
	return columns, rows.Err()
}

// keyParts gives the positions of the primary key's columns, from 1.
func (s *Source) keyParts(ctx context.Context, table string) (map[string]int, error) {
	rows, err := s.pool.QueryContext(ctx, `SELECT COLUMN_NAME, SEQ_IN_INDEX FROM information_schema.STATISTICS
		WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND INDEX_NAME = 'PRIMARY'`, s.database, table)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	parts := make(map[string]int)
	for rows.Next() {
		var name string
		var position int
		if err := rows.Scan(&name, &position); err != nil {
			return nil, err
		}
		parts[name] = position
	}
	return parts, rows.Err()
}

// jsonColumns finds MariaDB's JSON columns. There the type is an alias for LONGTEXT with a check constraint, and only the constraint tells the two apart.
func (s *Source) jsonColumns(ctx context.Context, table string) (map[string]bool, error) {
	var constrained int
	err := s.pool.QueryRowContext(ctx, `SELECT COUNT(*) FROM information_schema.COLUMNS
		WHERE TABLE_SCHEMA = 'information_schema' AND TABLE_NAME = 'CHECK_CONSTRAINTS' AND COLUMN_NAME = 'TABLE_NAME'`).Scan(&constrained)
	if err != nil || constrained == 0 { // MySQL, or a MariaDB without named constraints
		return nil, err
	}
	rows, err := s.pool.QueryContext(ctx, `SELECT c.COLUMN_NAME FROM information_schema.COLUMNS c JOIN information_schema.CHECK_CONSTRAINTS k
		ON k.CONSTRAINT_SCHEMA = c.TABLE_SCHEMA AND k.TABLE_NAME = c.TABLE_NAME AND k.CONSTRAINT_NAME = c.COLUMN_NAME
		WHERE c.TABLE_SCHEMA = ? AND c.TABLE_NAME = ? AND c.DATA_TYPE = 'longtext'
		AND k.CHECK_CLAUSE = CONCAT('json_valid(', CHAR(96), REPLACE(c.COLUMN_NAME, CHAR(96), CONCAT(CHAR(96), CHAR(96))), CHAR(96), ')')`, s.database, table)
	if err != nil {
		return nil, err
	}
	return names(rows)
}

func names(rows *sql.Rows) (map[string]bool, error) {
	defer rows.Close()
	set := make(map[string]bool)
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		set[name] = true
	}
	return set, rows.Err()
}
