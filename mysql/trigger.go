package mysql

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

const (
	triggerNameMax    = 64 // of the server
	triggerPrefix     = "quiesce_"
	standInSuffix     = "_"
	triggerHashDigits = 12
	keyRunesKept      = 256 // one more than a key may have: what is longer is set aside by the relay, and does not fail the application
)

// ErrTrigger means that there can be no triggers for a mapping.
var ErrTrigger = errors.New("no triggers for this mapping")

// TriggerSpec says of what triggers are to write outbox rows.
type TriggerSpec struct {
	Mapping     string
	Table       string
	PrimaryKey  []string
	KeyColumns  []string // of the mapping's keys, in their order; empty: the primary key
	Columns     []string // beside the key columns: an UPDATE that changes none of all these writes nothing
	EveryUpdate bool     // writes for each UPDATE
}

// Trigger is one trigger. Its body is one statement.
type Trigger struct {
	Name  string
	Event string // INSERT, UPDATE or DELETE
	Table string
	Body  string
}

// Statement makes the trigger. It holds a semicolon: a client that cuts its input at semicolons needs another delimiter.
func (t Trigger) Statement() string { return t.create(t.Name) }

func (t Trigger) create(name string) string {
	return "CREATE TRIGGER " + quote(name) + " AFTER " + t.Event + " ON " + quote(t.Table) + " FOR EACH ROW " + t.Body
}

func (t Trigger) standIn() string { return t.Name + standInSuffix }

func dropTrigger(name string) string { return "DROP TRIGGER IF EXISTS " + quote(name) }

// Cascade is a foreign key by which rows of the table change without triggers.
type Cascade struct{ Constraint, Parent, OnDelete, OnUpdate string }

// TriggerPlan is what is to be made, and what it will miss.
type TriggerPlan struct {
	Triggers []Trigger
	Cascades []Cascade
}

// TriggerSession are the statements that must come before the triggers in the same session: the server keeps the session's modes and character
// set with each trigger, and whoever fires it has others.
var TriggerSession = []string{"SET NAMES utf8mb4", "SET SESSION sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION'"}

// triggerNames are those of the triggers after INSERT, UPDATE and DELETE. A long name of a mapping is cut off, and told from others by a hash.
func triggerNames(mapping string) [3]string {
	base := triggerPrefix + mapping
	if room := triggerNameMax - len("_ai") - len(standInSuffix); len(base) > room {
		sum := sha256.Sum256([]byte(mapping))
		base = base[:room-1-triggerHashDigits] + "_" + hex.EncodeToString(sum[:])[:triggerHashDigits]
	}
	return [3]string{base + "_ai", base + "_au", base + "_ad"}
}

// PlanTriggers looks at the table and writes the triggers of a mapping. It changes nothing.
func (s *Schema) PlanTriggers(ctx context.Context, spec TriggerSpec) (TriggerPlan, error) {
	types, err := s.columnTypes(ctx, spec.Table)
	if err != nil {
		return TriggerPlan{}, err
	}
	writer := triggerWriter{spec: spec, types: types, key: spec.KeyColumns}
	if len(writer.key) == 0 {
		writer.key = spec.PrimaryKey
	}
	if err := writer.check(); err != nil {
		return TriggerPlan{}, fmt.Errorf("source %s: %w", s.source.name, err)
	}
	cascades, err := s.cascades(ctx, spec.Table)
	return TriggerPlan{Triggers: writer.triggers(), Cascades: cascades}, err
}

func (s *Schema) columnTypes(ctx context.Context, table string) (map[string]string, error) {
	rows, err := s.column(ctx, "SELECT CONCAT(DATA_TYPE, ' ', COLUMN_NAME) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? LIMIT 4096", table)
	if err != nil {
		return nil, err
	}
	types := map[string]string{}
	for _, row := range rows {
		dataType, name, _ := strings.Cut(row, " ")
		types[name] = strings.ToLower(dataType)
	}
	if len(types) == 0 {
		return nil, fmt.Errorf("source %s: %w: database %q has no table %q that this account may see", s.source.name, ErrTableChanged, s.source.database, table)
	}
	return types, nil
}

func (s *Schema) cascades(ctx context.Context, table string) ([]Cascade, error) {
	rows, err := s.column(ctx, `SELECT CONCAT_WS(CHAR(10), CONSTRAINT_NAME, REFERENCED_TABLE_NAME, DELETE_RULE, UPDATE_RULE) FROM information_schema.REFERENTIAL_CONSTRAINTS
		WHERE CONSTRAINT_SCHEMA = DATABASE() AND TABLE_NAME = ? AND (DELETE_RULE IN ('CASCADE', 'SET NULL', 'SET DEFAULT') OR UPDATE_RULE IN ('CASCADE', 'SET NULL', 'SET DEFAULT'))
		ORDER BY CONSTRAINT_NAME LIMIT 1000`, table)
	if err != nil {
		return nil, err
	}
	var out []Cascade
	for _, row := range rows {
		if parts := strings.Split(row, "\n"); len(parts) == 4 {
			out = append(out, Cascade{Constraint: parts[0], Parent: parts[1], OnDelete: parts[2], OnUpdate: parts[3]})
		}
	}
	return out, nil
}

// triggerWriter writes the triggers of one mapping.
type triggerWriter struct {
	spec  TriggerSpec
	types map[string]string // DATA_TYPE by column
	key   []string
}

// keyPart is how a column of a type gives its part of a key; %s is the column. JSON_ARRAY makes a string of a character value and null of NULL.
func keyPart(dataType string) string {
	switch dataType {
	case "tinyint", "smallint", "mediumint", "int", "bigint", "decimal", "date", "datetime", "uuid", "inet4", "inet6":
		return "CAST(%s AS CHAR CHARACTER SET utf8mb4)"
	case "char", "varchar":
		return fmt.Sprintf("LEFT(CONVERT(%%s USING utf8mb4), %d)", keyRunesKept)
	case "binary", "varbinary":
		return fmt.Sprintf("CONVERT(LOWER(HEX(LEFT(%%s, %d))) USING utf8mb4)", keyRunesKept)
	}
	return ""
}

func (w triggerWriter) check() error {
	if len(w.key) == 0 || w.spec.Mapping == "" {
		return fmt.Errorf("%w: it has no key columns or no name", ErrTrigger)
	}
	for _, name := range slices.Concat(w.key, w.spec.Columns) {
		if w.types[name] == "" {
			return fmt.Errorf("%w: table %q has no column %q", ErrTableChanged, w.spec.Table, name)
		}
	}
	for _, name := range w.key {
		if keyPart(w.types[name]) == "" {
			return fmt.Errorf("%w: column %q of type %s is no part of a key", ErrTrigger, name, w.types[name])
		}
	}
	return nil
}

func (w triggerWriter) triggers() []Trigger {
	names := triggerNames(w.spec.Mapping)
	changed := "NOT (" + w.same(w.key) + ")"
	update := w.insert(w.array("NEW"), "IF("+changed+", "+w.array("OLD")+", NULL)")
	if !w.spec.EveryUpdate {
		update = "IF NOT (" + w.same(distinct(slices.Concat(w.key, w.spec.Columns))) + ") THEN " + update + "; END IF"
	}
	deleted := w.insert("NULL", w.array("OLD"))
	if w.byPrimaryKey() {
		deleted = w.insert(w.array("OLD"), "NULL")
	}
	return []Trigger{
		{Name: names[0], Event: "INSERT", Table: w.spec.Table, Body: w.insert(w.array("NEW"), "NULL")},
		{Name: names[1], Event: "UPDATE", Table: w.spec.Table, Body: update},
		{Name: names[2], Event: "DELETE", Table: w.spec.Table, Body: deleted},
	}
}

func (w triggerWriter) byPrimaryKey() bool { return slices.Equal(w.key, w.spec.PrimaryKey) }

// insert writes one outbox row. Where the key is the primary key it goes into pk, else into new_key. It is an INSERT of VALUES: one of a SELECT
// would hold the table's AUTO-INC lock to the end of the statement.
func (w triggerWriter) insert(key, old string) string {
	column := "new_key"
	if w.byPrimaryKey() {
		column = "pk"
	}
	return "INSERT INTO quiesce_outbox (mapping, " + column + ", old_key) VALUES (" + quotedText(w.spec.Mapping) + ", " + key + ", " + old + ")"
}

// array is the key of a row as a JSON array of strings.
func (w triggerWriter) array(row string) string {
	parts := make([]string, len(w.key))
	for i, name := range w.key {
		parts[i] = fmt.Sprintf(keyPart(w.types[name]), row+"."+quote(name))
	}
	return "JSON_ARRAY(" + strings.Join(parts, ", ") + ")"
}

// same tells whether columns have the same value before and after. Texts are compared byte by byte: to most collations 'a' and 'A ' are the same, and to a
// cache they are not.
func (w triggerWriter) same(columns []string) string {
	parts := make([]string, len(columns))
	for i, name := range columns {
		form := "%s"
		switch w.types[name] {
		case "char", "varchar", "tinytext", "text", "mediumtext", "longtext":
			form = "CAST(%s AS BINARY)"
		case "json":
			form = "CAST(CAST(%s AS CHAR CHARACTER SET utf8mb4) AS BINARY)"
		}
		parts[i] = fmt.Sprintf(form, "OLD."+quote(name)) + " <=> " + fmt.Sprintf(form, "NEW."+quote(name))
	}
	return strings.Join(parts, " AND ")
}

func distinct(names []string) []string {
	var out []string
	for _, name := range names {
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// quotedText quotes a text without a backslash, which some modes take for itself.
func quotedText(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
