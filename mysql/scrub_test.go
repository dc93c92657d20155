package mysql_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/quiescehq/quiesce/mysql"
)

func TestScrub_KeepsTheShapeAndHidesTheLiterals(t *testing.T) {
	t.Parallel()
	for statement, want := range map[string]string{
		"SELECT 1":                          "SELECT ?",
		"UPDATE  t\n SET a='x', b = -1.5e3": "UPDATE t SET a=?, b = -?",
		"INSERT INTO `my t` VALUES (0xFF, x'41', b'01', N'q', _utf8mb4'z', .5, 1e-5)": "INSERT INTO `my t` VALUES (?, x?, b?, N?, _utf8mb4?, ?, ?-?)",
		"SELECT 'it''s' /* card 4111 */ FROM t -- pin 1234\nWHERE a=\"b\" # 5":        "SELECT ? FROM t WHERE a=?",
		`SELECT 'a\n' FROM t`:                  "SELECT ? FROM t",
		`SELECT 'a\' OR b=' secret '`:          "SELECT ?…", // under NO_BACKSLASH_ESCAPES " secret " is no literal, and so it may be the other way round
		`SELECT 'C:\\' FROM t`:                 "SELECT ?…",
		"SELECT a--1":                          "SELECT a--?",
		"SELECT a--'x\nsecret'":                "SELECT a--?",
		"SELECT 1 FROM t WHERE a = 'cut of":    "SELECT ? FROM t WHERE a = ?",
		"SELECT 1 /* cut of":                   "SELECT ?",
		"SELECT `cut of":                       "SELECT…",
		"CREATE FUNCTION f AS $$ secret $$":    "CREATE FUNCTION f AS…",
		"SELECT * FROM orders_2024 o, größe":   "SELECT * FROM orders_2024 o, größe",
		"SELECT @a := DATE '2026-01-02'":       "SELECT @a := DATE ?",
		"":                                     "",
		"SELECT \x00\x1b[31m a\xff":            "SELECT \uFFFD\uFFFD[? a\uFFFD",
		"SELECT " + strings.Repeat("c, ", 999): "SELECT " + strings.Repeat("c, ", 168) + "c…",
	} {
		if got := mysql.Scrub(statement); got != want {
			t.Errorf("Scrub(%q)\n got %q\nwant %q", statement, got, want)
		}
	}
}

// secret begins with a letter: what begins with a digit is hidden wherever it stands.
const secret = "geheim"

// literals are how a client may write a text, whatever the server's mode, when it does it right.
func literals(text string) []string {
	escaped := strings.NewReplacer(`\`, `\\`, `'`, `\'`, `"`, `\"`).Replace(text)
	return []string{
		"'" + escaped + "'", `"` + escaped + `"`,
		"'" + strings.ReplaceAll(strings.ReplaceAll(text, `\`, `\\`), "'", "''") + "'",
		"'" + strings.ReplaceAll(text, "'", "''") + "'", // NO_BACKSLASH_ESCAPES
		`"` + strings.ReplaceAll(text, `"`, `""`) + `"`,
	}
}

func FuzzScrub(f *testing.F) {
	for _, text := range []string{"", "x", `\`, `'`, `"`, `\'`, `'\`, `\\'`, `a\'' b`, "/*", "*/", "--", "-- ", "#", "`", "\n", "$$", "\x00", "ä", "\xff", `'";--`} {
		f.Add(text, text, uint16(10))
	}
	f.Fuzz(func(t *testing.T, before, after string, cut uint16) {
		for i, literal := range literals(before + secret + after) {
			for _, statement := range []string{
				"SELECT " + literal,
				"UPDATE t SET a = " + literal + ", b = " + literal + " WHERE c = 1",
				"SELECT '' , " + literal + " -- x\n , " + literal,
				"SELECT /* " + strings.ReplaceAll(before+secret+after, "*", "") + " */ 1 # " + strings.ReplaceAll(before+secret+after, "\n", "") + "\n, " + literal,
			} {
				check(t, i, statement)
				check(t, i, statement[:min(int(cut), len(statement))])
			}
		}
	})
}

func check(t *testing.T, way int, statement string) {
	t.Helper()
	got := mysql.Scrub(statement)
	switch {
	case strings.Contains(got, secret):
		t.Fatalf("way %d: Scrub(%q) = %q", way, statement, got)
	case !utf8.ValidString(got) || strings.ContainsAny(got, "\n\r\t\x1b\x00"):
		t.Fatalf("Scrub(%q) = %q is not fit for a log", statement, got)
	case len(got) > 520:
		t.Fatalf("Scrub of %d bytes has %d", len(statement), len(got))
	}
}
