package mysql_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/mysql"
)

// places reads a part to its end and gives the places of its rows, encoded.
func (f fixture) places(m *mapping.Mapping, part mysql.Part, limit int) (places []string) {
	f.Helper()
	for after := []string(nil); ; {
		chunk, err := f.source.ReadPart(f.Context(), m, part, after, limit)
		if err != nil {
			f.Fatalf("ReadPart: %v", err)
		}
		for _, row := range chunk.Rows {
			places = append(places, mapping.EncodeKey(row.PK))
		}
		if chunk.Place == nil {
			return places
		}
		after = chunk.Place
	}
}

// Each table is read between every two of its rows: the first bound is in the part and the second is not, in the order of the server and by its collation.
func TestReadPart_BoundsAreHalfOpenInTheServersOrder(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		key, insert string
		primary     []string
		// bounds that are no row, and which rows lie between them
		from, to []string
		want     []string
	}{
		"unsigned": {"id BIGINT UNSIGNED PRIMARY KEY", "(0),(1),(9223372036854775807),(9223372036854775808),(18446744073709551614),(18446744073709551615)", []string{"id"},
			[]string{"2"}, []string{"18446744073709551614"}, []string{`["9223372036854775807"]`, `["9223372036854775808"]`}},
		"text by a collation": {"id VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci PRIMARY KEY", "('alpha'),('Beta'),('gamma'),('DELTA'),('ärger'),('a b'),('')", []string{"id"},
			[]string{"ALPHA"}, []string{"delta"}, []string{`["alpha"]`, `["ärger"]`, `["Beta"]`}},
		"text by bytes": {"id VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PRIMARY KEY", "('alpha'),('Beta'),('gamma'),('DELTA'),('ärger'),('it''s')", []string{"id"},
			[]string{"C"}, []string{"b"}, []string{`["DELTA"]`, `["alpha"]`}},
		"bytes": {"id VARBINARY(8) PRIMARY KEY", "(x''),(x'00'),(x'0000'),(x'27'),(x'5c'),(x'ff'),(x'ff00')", []string{"id"},
			[]string{"0001"}, []string{"ff"}, []string{`["27"]`, `["5c"]`}},
		"composite": {"a INT, b VARCHAR(9) COLLATE utf8mb4_general_ci, c DATE, PRIMARY KEY (a, b, c)",
			"(-1,'x','2024-01-01'),(0,'A','2024-01-01'),(0,'a ','2024-01-02'),(0,'b','2023-12-31'),(1,'a','2024-01-01'),(1,'B','2024-06-01'),(1,'b','2024-07-01'),(2,'','2020-01-01')", []string{"a", "b", "c"},
			[]string{"0", "a", "2024-01-02"}, []string{"1", "b", "2024-06-30"}, []string{`["0","a ","2024-01-02"]`, `["0","b","2023-12-31"]`, `["1","a","2024-01-01"]`, `["1","B","2024-06-01"]`}},
		"enumeration": {"id ENUM('z','a','m') PRIMARY KEY", "('a'),('m'),('z')", []string{"id"}, []string{"2"}, []string{"3"}, []string{`["2"]`}},
		"time":        {"id DATETIME(3) PRIMARY KEY", "('2024-01-01 00:00:00'),('2024-01-01 00:00:00.001'),('2025-01-01 00:00:00')", []string{"id"}, []string{"2024-01-01 00:00:00.001"}, []string{"2025-01-01 00:00:00"}, []string{`["2024-01-01 00:00:00.001"]`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.exec("CREATE TABLE part (" + test.key + ")")
			f.exec("ALTER TABLE part ADD v INT DEFAULT 7", "INSERT INTO part ("+strings.Join(test.primary, ", ")+") VALUES "+test.insert)
			m := f.compileForPasses("part", test.primary)
			all := f.places(m, mysql.Part{}, 100)
			if len(all) != strings.Count(test.insert, "(") {
				t.Fatalf("the whole table is %q", all)
			}
			if got := f.places(m, mysql.Part{From: test.from, To: test.to}, 100); !slices.Equal(got, test.want) {
				t.Errorf("from %q to %q: %q, want %q", test.from, test.to, got, test.want)
			}
			for i := range all {
				first, _ := mapping.DecodeKey(all[i])
				for j := range all {
					end, _ := mapping.DecodeKey(all[j])
					for _, limit := range []int{1, 2, 100} {
						if got, want := f.places(m, mysql.Part{From: first, To: end}, limit), all[i:max(i, j)]; !slices.Equal(got, want) {
							t.Errorf("from %s to %s, %d at a time: %q, want %q", all[i], all[j], limit, got, want)
						}
					}
				}
				if got := f.places(m, mysql.Part{From: first}, 2); !slices.Equal(got, all[i:]) {
					t.Errorf("from %s on: %q", all[i], got)
				}
			}
		})
	}
}

// compileForPasses makes a mapping over a table whose primary key may be of a type that no key is made of.
func (f fixture) compileForPasses(table string, primary []string) *mapping.Mapping {
	f.Helper()
	columns, err := f.source.Columns(f.Context(), table)
	if err != nil {
		f.Fatal(err)
	}
	m, err := mapping.Compile(mapping.Spec{Source: "shop", Table: table, PrimaryKey: primary, KeyColumns: []string{"v"}, Target: "cache", Key: table + ":{v}", Mode: mapping.Invalidate}, 1, columns)
	if err != nil {
		f.Fatal(err)
	}
	return m
}

func TestReadPart_RefusesWhatIsNoPlace(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE o (id INT PRIMARY KEY, v INT)")
	m := f.compile("o", []string{"id"}, "v")
	for _, part := range []mysql.Part{{From: []string{"1 OR 1=1"}}, {To: []string{"x"}}, {From: []string{"1", "2"}}, {To: []string{}}} {
		var refused *mapping.KeyError
		if _, err := f.source.ReadPart(t.Context(), m, part, nil, 10); !errors.As(err, &refused) {
			t.Errorf("%+v: %v", part, err)
		}
		if _, err := f.source.EstimateRows(t.Context(), m, part); !errors.As(err, &refused) {
			t.Errorf("estimate of %+v: %v", part, err)
		}
	}
	for _, limit := range []int{0, mysql.SampleRowsMax + 1} {
		if _, err := f.source.ReadPart(t.Context(), m, mysql.Part{SamplePPM: 10}, nil, limit); !errors.Is(err, mysql.ErrBatchTooLarge) {
			t.Errorf("%d rows: %v", limit, err)
		}
	}
}

// Over many salts each row is drawn as often as any other, two rows independently of each other, and a salt draws the same rows however the table is cut.
func TestReadPart_SampleIsUniformAndTheSameEachTime(t *testing.T) {
	t.Parallel()
	const rows, draws, ppm = 1_000, 150, 300_000
	f := newFixture(t)
	f.exec("CREATE TABLE t (a INT, b VARCHAR(9) COLLATE utf8mb4_bin, v INT, PRIMARY KEY (a, b))", "CREATE TABLE d (n INT)", "INSERT INTO d VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)",
		"INSERT INTO t SELECT x.n * 10 + y.n, CONCAT('k', z.n), 0 FROM d x, d y, d z")
	m := f.compile("t", []string{"a", "b"}, "v")
	all := f.places(m, mysql.Part{}, 5_000)
	times, neighbours, sizes := map[string]int{}, 0, 0.0
	for salt := range uint64(draws) {
		part := mysql.Part{SamplePPM: ppm, Salt: salt}
		drawn := f.places(m, part, mysql.SampleRowsMax)
		sizes += float64(len(drawn))
		if salt < 3 {
			for _, limit := range []int{37, rows} {
				if again := f.places(m, part, limit); !slices.Equal(again, drawn) {
					t.Errorf("salt %d, %d rows at a time: %d rows, and %d at once", salt, limit, len(again), len(drawn))
				}
			}
			half := mysql.Part{SamplePPM: ppm, Salt: salt, From: []string{"25", "k0"}, To: []string{"75", "k0"}}
			if got, want := f.places(m, half, 100), slices.DeleteFunc(slices.Clone(drawn), func(p string) bool { return p < `["25"` || p >= `["75"` || len(p) < 11 }); !slices.Equal(got, want) {
				t.Errorf("salt %d: a part of the sample has %d rows, want %d", salt, len(got), len(want))
			}
		}
		set := map[string]bool{}
		for _, place := range drawn {
			times[place]++
			set[place] = true
		}
		for i := 1; i < rows; i++ {
			if set[all[i]] && set[all[i-1]] {
				neighbours++
			}
		}
	}
	const share = float64(ppm) / 1e6
	chi := 0.0
	for _, place := range all {
		d := float64(times[place]) - draws*share
		chi += d * d / (draws * share * (1 - share))
	}
	// About normal with mean rows and variance 2·rows; the salts are fixed, so the outcome is the same each time.
	if limit := rows + 5*math.Sqrt(2*rows); chi > limit {
		t.Errorf("some rows are drawn more often than others: chi square %.0f, at most %.0f", chi, limit)
	}
	if mean, want := sizes/draws, rows*share; math.Abs(mean-want) > 0.02*want {
		t.Errorf("%.1f rows a sample, want %.1f", mean, want)
	}
	if got, want := float64(neighbours), (rows-1)*draws*share*share; math.Abs(got-want) > 0.05*want {
		t.Errorf("two neighbours were both drawn %.0f times, want about %.0f", got, want)
	}
}

// The negative control: a hash of salt and key by CRC-32 alone draws much the same rows for every salt of a length, or none of them, so that some tables would never be looked at well.
func TestReadPart_CRCAloneWouldNotDo(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var together, alone int
	// The rows that salt 1 and 2 agree about by CRC of salt and key, and by the statement's own hash, for a draw of one bit.
	query := "SELECT SUM((CRC32(CONCAT('1', n)) & 1) = (CRC32(CONCAT('2', n)) & 1)) IN (0, COUNT(*)) FROM (SELECT 1000 + a.n * 10 + b.n AS n FROM (SELECT 0 n UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4) a, (SELECT 5 n UNION SELECT 6 UNION SELECT 7 UNION SELECT 8) b) x"
	if err := f.db.QueryRowContext(t.Context(), query).Scan(&together); err != nil {
		t.Fatal(err)
	}
	if together != 1 {
		t.Error("the control is broken: CRC-32 mixes salts")
	}
	f.exec("CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t (id) VALUES "+numbered(200))
	m := f.compile("t", []string{"id"}, "v")
	one := f.places(m, mysql.Part{SamplePPM: 500_000, Salt: 1}, 1_000)
	for _, place := range f.places(m, mysql.Part{SamplePPM: 500_000, Salt: 2}, 1_000) {
		if slices.Contains(one, place) {
			alone++
		}
	}
	if alone < 30 || alone > 70 {
		t.Errorf("two samples of a half have %d of 200 rows in common, want about 50", alone)
	}
}

func numbered(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%s(%d)", map[bool]string{true: ",", false: ""}[i > 0], i+1)
	}
	return b.String()
}

// A chunk of a sample that is too large ends early, and the reading goes on there.
func TestReadPart_SampleOfLargeRowsLosesNone(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(2000))", "INSERT INTO t (id) VALUES "+numbered(300), "UPDATE t SET v = REPEAT('x', 1000)")
	m := f.compile("t", []string{"id"}, "v")
	part := mysql.Part{SamplePPM: 500_000, Salt: 9}
	want := f.places(m, part, 1_000)
	f.source.SetReadBytesMax(10_000)
	if got := f.places(m, part, 1_000); !slices.Equal(got, want) || len(got) < 100 {
		t.Errorf("%d rows, want %d", len(got), len(want))
	}
}

func TestEstimateRows_IsOfTheRightOrder(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec("CREATE TABLE e (id INT PRIMARY KEY, v INT)", "CREATE TABLE d (n INT)", "INSERT INTO d VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)")
	m := f.compile("e", []string{"id"}, "v")
	if n, err := f.source.EstimateRows(t.Context(), m, mysql.Part{}); err != nil || n > 1 {
		t.Errorf("an empty table has %d rows, %v", n, err)
	}
	f.exec("INSERT INTO e SELECT x.n * 1000 + y.n * 100 + z.n * 10 + w.n, 0 FROM d x, d y, d z, d w", "ANALYZE TABLE e")
	for _, test := range []struct {
		part mysql.Part
		want float64
	}{
		{mysql.Part{}, 10_000},
		{mysql.Part{From: []string{"1000"}, To: []string{"2000"}}, 1_000},
		{mysql.Part{SamplePPM: 10_000}, 100},
		{mysql.Part{From: []string{"10000"}}, 1},
	} {
		n, err := f.source.EstimateRows(t.Context(), m, test.part)
		if got := float64(n); err != nil || got < test.want/2 || got > 2*test.want {
			t.Errorf("%+v: %d rows, %v, want about %.0f", test.part, n, err, test.want)
		}
	}
}

func TestThreadsRunning_CountsAtLeastTheOneThatAsks(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if n, err := f.source.ThreadsRunning(t.Context()); err != nil || n < 1 {
		t.Errorf("%d, %v", n, err)
	}
}
