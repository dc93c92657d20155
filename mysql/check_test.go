package mysql_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/quiescehq/quiesce/mapping"
	source "github.com/quiescehq/quiesce/mysql"
)

// levels gives the findings of one field as "level reason".
func levels(t *testing.T, f fixture, spec mapping.Spec, field string) []string {
	t.Helper()
	found, err := f.source.Inspect(t.Context(), spec)
	if err != nil {
		t.Fatalf("Inspect: %v", err)
	}
	var out []string
	for _, finding := range found.Findings {
		if finding.Field == field {
			out = append(out, string(finding.Level)+" "+finding.Reason)
		}
	}
	return out
}

func TestInspect_TellsWhatIsWrongAndWhatIsOdd(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE parent (id INT PRIMARY KEY)", "INSERT INTO parent VALUES (1)",
		`CREATE TABLE o (id BIGINT PRIMARY KEY, v VARCHAR(40) COLLATE utf8mb4_bin, u VARCHAR(40) COLLATE utf8mb4_bin, w INT, p INT, rate DOUBLE, at TIMESTAMP NULL, twice INT AS (w * 2), doc LONGTEXT,
		UNIQUE (u, w), KEY (w), FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE)`,
		"CREATE TABLE isam (id INT PRIMARY KEY, v INT) ENGINE=MyISAM", "CREATE VIEW seen AS SELECT * FROM o")
	for id := range 200 {
		f.exec(fmt.Sprintf("INSERT INTO o (id, v, u, w, p) VALUES (%d, 'v%d', 'u%d', %d, 1)", id, id, id, id))
	}
	by := func(mode mapping.Mode, columns ...string) mapping.Spec {
		spec := specOf("o", []string{"id"}, "id", "rate", "at", "twice", "doc")
		spec.KeyColumns, spec.Mode = columns, mode
		spec.Key = "o:{" + strings.Join(columns, "}:{") + "}"
		return spec
	}
	isam := specOf("isam", []string{"id"}, "v")
	for name, c := range map[string]struct {
		spec  mapping.Spec
		field string
		want  []string // beginnings
	}{
		"unique index":                     {by(mapping.WriteThrough, "u", "w"), "key_columns", nil},
		"unique index within":              {by(mapping.WriteThrough, "u", "w", "v"), "key_columns", nil},
		"primary key within":               {by(mapping.WriteThrough, "v", "id"), "key_columns", nil},
		"no unique index":                  {by(mapping.WriteThrough, "w"), "key_columns", []string{"error w: the table has no unique index"}},
		"part of a unique index":           {by(mapping.WriteIfPresent, "u"), "key_columns", []string{"error u: the table has no unique index"}},
		"no index at all":                  {by(mapping.WriteThrough, "v"), "key_columns", []string{"error v: the table has no unique index", "warning the server reads the whole table"}},
		"no index is needed to invalidate": {by(mapping.Invalidate, "v"), "key_columns", nil},
		"cascade":                          {by(mapping.WriteThrough, "u", "w"), "table", []string{"warning foreign key"}},
		"engine":                           {isam, "table", []string{`error "isam" is of engine MyISAM`}},
		"big number":                       {by(mapping.WriteThrough, "u", "w"), "columns[0]", []string{"note"}},
		"double":                           {by(mapping.WriteThrough, "u", "w"), "columns[1]", []string{"note"}},
		"timestamp":                        {by(mapping.WriteThrough, "u", "w"), "columns[2]", []string{"note"}},
		"generated":                        {by(mapping.WriteThrough, "u", "w"), "columns[3]", []string{`note "twice" is a generated column`}},
		"account that may do everything":   {by(mapping.WriteThrough, "u", "w"), "source", []string{"warning the account may do more than read"}},
	} {
		got := levels(t, f, c.spec, c.field)
		ok := len(got) >= len(c.want) && (len(c.want) > 0 || len(got) == 0)
		for i := range c.want {
			ok = ok && slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, c.want[i]) })
		}
		if !ok {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	spec := specOf("seen", []string{"id"}, "v")
	if got := levels(t, f, spec, "table"); len(got) == 0 || !strings.HasPrefix(got[0], "error") {
		t.Errorf("view: %q", got)
	}
	found, err := f.source.Inspect(t.Context(), by(mapping.WriteThrough, "u", "w"))
	if err != nil || found.Fault() != nil || found.Explain == "" || found.Sample == nil || found.Mapping == nil || found.Server.Version == "" {
		t.Errorf("%+v, %v", found, err)
	}
}

func TestInspect_AccountThatMayOnlyReadIsFine(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE o (id INT PRIMARY KEY, v INT, secret INT)", "INSERT INTO o VALUES (1, 2, 3)")
	cfg, err := mysql.ParseDSN(f.dsn)
	if err != nil {
		t.Fatal(err)
	}
	for name, grants := range map[string][]string{"table": {"GRANT SELECT ON o TO %s"}, "columns": {"GRANT SELECT (id, v) ON o TO %s"}} {
		user := fmt.Sprintf("r%x_%s", len(grants), cfg.DBName)
		user = name[:1] + user[max(0, len(user)-28):]
		f.exec("CREATE USER '"+user+"'@'%' IDENTIFIED BY 'pw'", fmt.Sprintf(grants[0], "'"+user+"'@'%'"))
		t.Cleanup(func() { f.db.Exec("DROP USER '" + user + "'@'%'") })
		own := *cfg
		own.User, own.Passwd = user, "pw"
		reader := fixture{T: t, source: open(t, source.Config{Name: "shop", DSN: own.FormatDSN()})}
		for _, finding := range levels(t, reader, specOf("o", []string{"id"}, "v"), "source") {
			if strings.HasPrefix(finding, "warning") || strings.HasPrefix(finding, "error") {
				t.Errorf("%s: %s", name, finding)
			}
		}
	}
}
