package mysql_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/mysql"
)

func TestOpen_BadDSNIsRefusedWithoutQuotingIt(t *testing.T) {
	t.Parallel()
	for _, dsn := range []string{
		"",
		"app:s3cret@tcp(127.0.0.1:3306)",
		"app:s3cret@tcp(127.0.0.1:3306)/",
		"app:s3cret@tcp(127.0.0.1:3306/shop",
		"app:s3cret@carrier(pigeon)/shop?timeout=s3cret",
		"app:x@tcp(127.0.0.1:3306)/shop?time_zone=s3cret",
		"app:x@tcp(127.0.0.1:3306)/shop?sql_mode=%27s3cret%27",
		"app:x@tcp(127.0.0.1:3306)/shop?tls=s3cret",
	} {
		source, err := mysql.Open(mysql.Config{Name: "shop", DSN: dsn})
		if !errors.Is(err, mysql.ErrDSN) {
			t.Errorf("Open(%q) = %v, want ErrDSN", dsn, err)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("error quotes the DSN: %v", err)
		}
		if source != nil {
			source.Close()
		}
	}
}

func TestOpen_ServerThatIsDownIsNoError(t *testing.T) {
	t.Parallel()
	source := open(t, mysql.Config{Name: "shop", DSN: "app:s3cret@tcp(127.0.0.1:1)/shop"})
	_, err := source.Identity(t.Context())
	if !errors.Is(err, mysql.ErrUnreachable) {
		t.Errorf("Identity = %v, want ErrUnreachable", err)
	}
	if strings.Contains(fmt.Sprint(err), "s3cret") {
		t.Errorf("error holds the password: %v", err)
	}
}

func TestOpen_WrongPasswordIsDenied(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	cfg, err := driver.ParseDSN(f.dsn)
	if err != nil {
		t.Fatal(err)
	}
	cfg.User, cfg.Passwd = "nobody_known", "s3cret"
	source := open(t, mysql.Config{Name: "shop", DSN: cfg.FormatDSN()})
	_, err = source.Identity(t.Context())
	if !errors.Is(err, mysql.ErrDenied) || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("Identity = %v, want ErrDenied without the password", err)
	}
}

func TestSession_IsFixedWhateverTheDSNAndTheServerSay(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	source := open(t, mysql.Config{Name: "shop", DSN: f.dsn + "?parseTime=true&charset=latin1&interpolateParams=false&loc=Local"})
	variables := map[string]string{
		"@@autocommit": "1", "@@time_zone": "+00:00", "@@character_set_results": "utf8mb4", "@@character_set_client": "utf8mb4", "@@sql_mode": "STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION",
	}
	id, err := source.Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if id.Flavour == "mariadb" {
		variables["@@tx_isolation"] = "READ-COMMITTED"
		variables["@@wsrep_sync_wait"] = "1"
	} else {
		variables["@@transaction_isolation"] = "READ-COMMITTED"
	}
	for variable, want := range variables {
		var got string
		if err := source.Pool().QueryRowContext(t.Context(), "SELECT "+variable).Scan(&got); err != nil || got != want {
			t.Errorf("%s = %q, %v; want %q", variable, got, err, want)
		}
	}
	var prepared, count string
	if err := source.Pool().QueryRowContext(t.Context(), "SELECT ?", "x").Scan(&count); err != nil {
		t.Fatal(err)
	}
	if err := source.Pool().QueryRowContext(t.Context(), "SHOW SESSION STATUS LIKE 'Com_stmt_prepare'").Scan(&prepared, &count); err != nil || count != "0" {
		t.Errorf("prepared statements = %s, %v; want 0: the binary protocol prints values differently", count, err)
	}
}

func TestIdentity_SaysWhoAnswered(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id, err := f.source.Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if id.Version == "" || id.ReadOnly || id.Database == "" || (id.Flavour != "mariadb" && id.Flavour != "mysql") {
		t.Errorf("Identity = %+v", id)
	}
}

func TestColumns_DescribeTheTableAsItIs(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE o (v BIGINT UNSIGNED NULL, b INT NOT NULL, doc JSON, txt LONGTEXT, `a``b` SMALLINT, bin VARBINARY(9), e ENUM('unsigned zerofill'), z INT ZEROFILL, PRIMARY KEY (`a``b`, b))")
	got, err := f.source.Columns(t.Context(), "o")
	if err != nil {
		t.Fatal(err)
	}
	byName := make(map[string]mapping.Column)
	for _, c := range got {
		c.Type, c.Collation = "", "" // display widths and defaults differ between the flavours
		byName[c.Name] = c
	}
	for _, want := range []mapping.Column{
		{Name: "v", Kind: mapping.KindInteger, Bits: 64, Unsigned: true, Nullable: true},
		{Name: "b", Kind: mapping.KindInteger, Bits: 32, KeyPart: 2},
		{Name: "a`b", Kind: mapping.KindInteger, Bits: 16, KeyPart: 1},
		{Name: "doc", Kind: mapping.KindJSON, Nullable: true},
		{Name: "txt", Kind: mapping.KindText, Nullable: true},
		{Name: "bin", Kind: mapping.KindBinary, Length: 9, Nullable: true},
		{Name: "e", Kind: mapping.KindText, Nullable: true},
		{Name: "z", Kind: mapping.KindUnsupported, Bits: 32, Unsigned: true, Nullable: true},
	} {
		if byName[want.Name] != want {
			t.Errorf("column %+v, want %+v", byName[want.Name], want)
		}
	}
	for _, table := range []string{"missing", "O", "o ", "o' OR '1'='1"} {
		if _, err := f.source.Columns(t.Context(), table); !errors.Is(err, mysql.ErrTableChanged) {
			t.Errorf("Columns(%q) = %v, want ErrTableChanged", table, err)
		}
	}
}

func TestCheck_RefusesWhatWouldFailLater(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE o (id INT PRIMARY KEY, v INT, secret INT)", "CREATE TABLE slug (name VARCHAR(20) PRIMARY KEY, v INT)", "CREATE TABLE loose (id INT)")
	ok := specOf("o", []string{"id"}, "v")
	checked, err := f.source.Check(t.Context(), ok)
	if err != nil || checked.Sample != nil || len(checked.Columns) != 3 {
		t.Fatalf("Check of an empty table = %+v, %v", checked, err)
	}
	f.exec("INSERT INTO o VALUES (7, 8, 9)")
	if checked, err = f.source.Check(t.Context(), ok); err != nil || checked.Sample == nil || checked.Sample.PK[0] != "7" {
		t.Errorf("Check = %+v, %v; want row 7 as the sample", checked, err)
	}
	for name, spec := range map[string]mapping.Spec{
		"text key": specOf("slug", []string{"name"}, "v"), "no key": specOf("loose", []string{"id"}, "id"), "unknown column": specOf("o", []string{"id"}, "w"), "empty": {},
	} {
		_, err := f.source.Check(t.Context(), spec)
		if _, invalid := errors.AsType[*mapping.InvalidError](err); !invalid {
			t.Errorf("%s: Check = %v, want an InvalidError", name, err)
		}
	}
	if _, err := f.source.Check(t.Context(), specOf("missing", []string{"id"}, "v")); !errors.Is(err, mysql.ErrTableChanged) {
		t.Errorf("missing table: %v, want ErrTableChanged", err)
	}
}

func TestCheck_AccountWithoutTheRightToReadIsDenied(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	cfg, err := driver.ParseDSN(f.dsn)
	if err != nil {
		t.Fatal(err)
	}
	f.exec("CREATE TABLE o (id INT PRIMARY KEY, v INT)")
	user := fmt.Sprintf("u%d", time.Now().UnixNano())
	// UPDATE alone shows the table in information_schema but does not let it be read.
	f.exec("CREATE USER "+user+"@'%' IDENTIFIED BY 'pw'", "GRANT UPDATE ON o TO "+user+"@'%'")
	t.Cleanup(func() { f.db.Exec("DROP USER " + user + "@'%'") })
	cfg.User, cfg.Passwd = user, "pw"
	source := open(t, mysql.Config{Name: "shop", DSN: cfg.FormatDSN()})
	if _, err := source.Check(t.Context(), specOf("o", []string{"id"}, "v")); !errors.Is(err, mysql.ErrDenied) {
		t.Errorf("Check = %v, want ErrDenied", err)
	}
}
