package oracle

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	_ "github.com/go-sql-driver/mysql" // the driver of database/sql
	"github.com/redis/go-redis/v9"

	"github.com/quiescehq/quiesce/cluster_test/services"
)

func TestCompare_SeesEveryKindOfDifference(t *testing.T) {
	t.Parallel()
	place := services.Require(t)
	db, err := sql.Open("mysql", place.MySQLDSN)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	cache := redis.NewClient(&redis.Options{Addr: place.RedisAddr})
	t.Cleanup(func() { _ = cache.Close() })
	for _, s := range []string{"CREATE TABLE goods (id BIGINT PRIMARY KEY, name VARCHAR(20) NULL, price DECIMAL(6,2) NOT NULL)",
		"INSERT INTO goods VALUES (1, 'a\"b', 12.50), (2, NULL, 0.00), (3, 'c', 1.00), (4, 'd', 2.00), (5, 'e', 3.00)"} {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	columns := []Column{{Name: "id", Number: true}, {Name: "name"}, {Name: "price", Number: true}}
	text := Mapping{Table: "goods", ID: "id", Columns: columns, Prefix: place.Prefix + "j:"}
	hash := Mapping{Table: "goods", ID: "id", Columns: columns, Prefix: place.Prefix + "h:", Hash: true}
	do := func(command ...any) {
		t.Helper()
		if err := cache.Do(t.Context(), command...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	differ := func(m Mapping, want ...string) {
		t.Helper()
		report, err := Compare(t.Context(), db, cache, m)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, d := range report.Differences {
			got = append(got, strings.TrimPrefix(d.Key, m.Prefix))
		}
		slices.Sort(got)
		if !slices.Equal(got, want) || report.Rows != 5 {
			t.Errorf("%d rows, differences %v, want %v", report.Rows, report.Differences, want)
		}
	}
	do("SET", text.Prefix+"1", `{"id":1,"name":"a\"b","price":12.50}`)
	do("SET", text.Prefix+"2", `{"id":2,"name":null,"price":0.00}`)
	do("SET", text.Prefix+"3", `{"id":4,"name":"d","price":2.00}`) // the value of another row
	do("RPUSH", text.Prefix+"4", "x")                              // another type
	do("SET", text.Prefix+"6", `{"id":6}`)                         // no row; and 5 has no key
	differ(text, "3", "4", "5", "6")
	do("HSET", hash.Prefix+"1", "id", "1", "name", `a"b`, "price", "12.50", "foreign", "x")
	do("HSET", hash.Prefix+"2", "id", "2", "price", "0.00")
	do("HSET", hash.Prefix+"3", "id", "3", "name", "c", "price", "1.0") // another text of the same number
	do("HSET", hash.Prefix+"4", "id", "4", "price", "2.00")             // a field is missing
	do("HSET", hash.Prefix+"5", "id", "5", "name", "e", "price", "3.00")
	differ(hash, "3", "4")
}

// resp spells commands as Redis writes them down.
func resp(commands ...string) string {
	var b strings.Builder
	for _, c := range commands {
		words := strings.Fields(c)
		fmt.Fprintf(&b, "*%d\r\n", len(words))
		for _, w := range words {
			fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(w), w)
		}
	}
	return b.String()
}

func TestReadAOF_FindsATokenThatFell(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		files     map[string]string
		writes    int
		backwards int
	}{
		"rises":                           {map[string]string{"appendonly.aof.1.incr.aof": resp("SELECT 0", "MULTI", "SET a 1", "HSET qg:{a} t 5", "EXEC", "HSET qg:{a} b 99", "HSET qg:{a} t 7", "HSET qg:{b} t 6")}, 3, 0},
		"equal":                           {map[string]string{"appendonly.aof.1.incr.aof": resp("HSET qg:{a} t 5", "HSET qg:{a} t 5")}, 2, 0},
		"falls":                           {map[string]string{"appendonly.aof.1.incr.aof": resp("HSET qg:{a} t 9", "HSET qg:{a} t 10", "UNLINK qg:{a}", "HSET qg:{a} t 9")}, 3, 1},
		"falls from one file to the next": {map[string]string{"appendonly.aof.2.incr.aof": resp("HSET qg:{a} t 9"), "appendonly.aof.10.incr.aof": resp("HSET qg:{a} t 8")}, 2, 1},
		"other keys":                      {map[string]string{"appendonly.aof.1.incr.aof": "#TS:1\r\n" + resp("HSET a t 9", "HSET a t 8")}, 0, 0},
		"cut":                             {map[string]string{"appendonly.aof.1.incr.aof": resp("HSET qg:{a} t 9") + "*4\r\n$4\r\nHSET\r\n$6"}, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for file, text := range tc.files {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := ReadAOF(dir, "qg:")
			if err != nil || got.Writes != tc.writes || len(got.Backwards) != tc.backwards {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
	if _, err := ReadAOF(t.TempDir(), "qg:"); err == nil {
		t.Error("a folder without a file is no good order")
	}
}

// A real server's file is read as what it is.
func TestReadAOF_OfARealServer(t *testing.T) {
	t.Parallel()
	own := services.OwnRedis(t, "--appendonly", "yes", "--appendfsync", "always")
	cache := redis.NewClient(&redis.Options{Addr: own.Addr})
	t.Cleanup(func() { _ = cache.Close() })
	script := redis.NewScript("redis.call('SET', KEYS[1], ARGV[1]) redis.call('HSET', KEYS[2], 't', ARGV[1]) redis.call('PEXPIRE', KEYS[2], 60000) return 1")
	for _, token := range []int{3, 9, 10, 4} {
		if err := script.Run(t.Context(), cache, []string{"a", "qg:{a}"}, token).Err(); err != nil {
			t.Fatal(err)
		}
	}
	got, err := ReadAOF(filepath.Join(own.Dir, "appendonlydir"), "qg:")
	if err != nil || got.Writes != 4 || len(got.Backwards) != 1 || got.Backwards[0] != (Step{"qg:{a}", 10, 4}) {
		t.Errorf("%+v, %v", got, err)
	}
}
