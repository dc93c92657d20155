package mysql

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	schemaQueryTimeout = 30 * time.Second
	schemaLockWait     = "10" // seconds; less than schemaQueryTimeout, or a statement that nobody waits for any more would still be done

	errorBinlogCreators = 1419
)

// ErrTriggerCreators means that the server lets this account make no triggers while it writes a binary log.
var ErrTriggerCreators = errors.New("the server writes a binary log and trusts no makers of triggers: set log_bin_trust_function_creators = 1, or use an account with SUPER")

// Schema changes the business schema, with the account of an operator. A node never does.
type Schema struct{ source *Source }

// OpenSchema checks the configuration. It does not connect.
func OpenSchema(cfg Config) (*Schema, error) {
	if cfg.QueryTimeout <= 0 {
		cfg.QueryTimeout = schemaQueryTimeout
	}
	cfg.ConnectionsMax = 1
	source, err := openWith(cfg, map[string]string{"lock_wait_timeout": schemaLockWait})
	if err != nil {
		return nil, err
	}
	return &Schema{source: source}, nil
}

// Close ends the connection.
func (s *Schema) Close() error { return s.source.Close() }

// Database is the name of the schema.
func (s *Schema) Database() string { return s.source.database }

// CreateOutboxTables makes the tables that are not there.
func (s *Schema) CreateOutboxTables(ctx context.Context) error {
	for _, statement := range OutboxTables {
		if err := s.define(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// DropOutboxTables removes the tables, but only if all of them are empty; else it names one that is not, and removes none.
func (s *Schema) DropOutboxTables(ctx context.Context) (notEmpty string, err error) {
	for _, table := range outboxTableNames {
		held, err := s.column(ctx, "SELECT 1 FROM "+table+" LIMIT 1")
		switch {
		case serverError(err) == errorNoSuchTable:
		case err != nil:
			return "", err
		case len(held) > 0:
			return table, nil
		}
	}
	return "", s.define(ctx, "DROP TABLE IF EXISTS "+strings.Join(outboxTableNames, ", "))
}

// ApplyTriggers makes the triggers of a plan. One that is there and differs is replaced without a moment in which none of both fires: then some changes
// are told twice. It gives the names of those that it made.
func (s *Schema) ApplyTriggers(ctx context.Context, plan TriggerPlan) (made []string, err error) {
	for _, t := range plan.Triggers {
		have, err := s.column(ctx, "SELECT ACTION_STATEMENT FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = DATABASE() AND TRIGGER_NAME = ?", t.Name)
		if err != nil {
			return made, err
		}
		steps := []string{t.create(t.Name)}
		switch {
		case len(have) > 0 && have[0] == t.Body:
			continue
		case len(have) > 0:
			steps = []string{dropTrigger(t.standIn()), t.create(t.standIn()), dropTrigger(t.Name), t.create(t.Name), dropTrigger(t.standIn())}
		}
		for _, statement := range steps {
			if err := s.define(ctx, statement); err != nil {
				return made, err
			}
		}
		made = append(made, t.Name)
	}
	return made, nil
}

// DropTriggers removes the triggers of a mapping, if they are there.
func (s *Schema) DropTriggers(ctx context.Context, mapping string) error {
	for _, name := range triggerNames(mapping) {
		if err := errors.Join(s.define(ctx, dropTrigger(name)), s.define(ctx, dropTrigger(name+standInSuffix))); err != nil {
			return err
		}
	}
	return nil
}

// OutboxTriggers names the triggers that write to the outbox table of this schema, as far as the account may see them.
func (s *Schema) OutboxTriggers(ctx context.Context) ([]string, error) {
	return s.column(ctx, "SELECT CONCAT(TRIGGER_SCHEMA, '.', TRIGGER_NAME) FROM information_schema.TRIGGERS WHERE ACTION_STATEMENT LIKE '%quiesce\\_outbox%' AND (TRIGGER_SCHEMA = DATABASE() OR ACTION_STATEMENT LIKE CONCAT('%', DATABASE(), '%')) ORDER BY 1 LIMIT 1000")
}

// define runs a statement that changes the schema.
func (s *Schema) define(ctx context.Context, statement string) error {
	bounded, cancel := context.WithTimeout(ctx, s.source.queryTimeout)
	defer cancel()
	_, err := s.source.pool.ExecContext(bounded, statement)
	if serverError(err) == errorBinlogCreators {
		return fmt.Errorf("source %s: %w: %w", s.source.name, ErrTriggerCreators, err)
	}
	return s.source.wrap(ctx, err)
}

// column reads the one column of an answer.
func (s *Schema) column(ctx context.Context, statement string, args ...any) ([]string, error) {
	bounded, cancel := context.WithTimeout(ctx, s.source.queryTimeout)
	defer cancel()
	rows, err := s.source.pool.QueryContext(bounded, statement, args...)
	if err != nil {
		return nil, s.source.wrap(ctx, err)
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, s.source.wrap(ctx, err)
		}
		out = append(out, text)
	}
	return out, s.source.wrap(ctx, rows.Err())
}
