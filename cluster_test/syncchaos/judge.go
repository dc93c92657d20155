package syncchaos

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/quiescehq/quiesce/cluster_test/oracle"
	"github.com/quiescehq/quiesce/cluster_test/syncchaos/ledger"
	"github.com/quiescehq/quiesce/cluster_test/syncchaos/writer"
)

const judgeWithin = 2 * time.Minute

// Verdict is what the witnesses say together.
type Verdict struct {
	Keys      int `json:"keys"`                    // that rows say there should be, and others that there are
	Unequal   int `json:"unequal"`                 // keys that differ from their rows, and nothing explains it
	Explained int `json:"unequal_tier1_explained"` // keys of tier 1 that differ, whose last commit had no accepted call
	Lost      int `json:"lost"`                    // keys that differ though the event of their last commit was accepted, and accepted events that are not done
	Backwards int `json:"backwards"`               // tokens that fell
	Phantom   int `json:"phantom"`                 // values that were written and whose transaction was rolled back, or never announced

	Commits     [writer.Tiers + 1]int `json:"commits"` // by tier, from 1
	RolledBack  [writer.Tiers + 1]int `json:"rolled_back"`
	Accepted    int                   `json:"accepted"`  // transactions whose calls were answered
	Forgotten   int                   `json:"forgotten"` // endings that were told to nobody on purpose
	Unknown     int                   `json:"unknown"`   // commits that were not confirmed
	Kept        int                   `json:"kept"`      // calls that the SDK could not make, and made later
	Uncalled    int                   `json:"uncalled"`  // commits of tier 1 without an accepted call
	Gaps        int                   `json:"gaps"`      // ledgers that miss lines
	Unannounced int                   `json:"unannounced"`
	Untrue      int                   `json:"untrue"` // commits that were said to be rolled back, and commits that were confirmed and are not there
	GuardWrites int                   `json:"guard_writes"`
	ValueWrites int                   `json:"value_writes"`
	Dead        int                   `json:"dead"`
	Refused     int                   `json:"refused"`

	last        []ledger.Event // the last accepted event of each key
	differences []string
}

// evidence is what is judged.
type evidence struct {
	db      *sql.DB
	cache   *redis.Client
	ledgers []string
	aof     string
	lives   []life // of Redis, whose file has lost its end since
}

// life is what one reading of the append-only file told.
type life struct {
	order  oracle.Order
	values map[string]int // serials of the values that were written
}

func (r *run) evidence() evidence {
	r.t.Helper()
	ledgers, err := filepath.Glob(filepath.Join(r.world.dir, "*.ledger"))
	if err != nil || len(ledgers) == 0 {
		r.t.Fatalf("no ledgers: %v", err)
	}
	return evidence{db: r.world.db, cache: r.world.redis.Client, ledgers: ledgers, aof: r.world.aof(), lives: r.lives}
}

// look compares what the witnesses say.
func (r *run) look(e evidence) Verdict {
	r.t.Helper()
	v, err := examine(r.t.Context(), e, func() life { return r.readLife(e.aof) })
	if err != nil {
		r.t.Fatal(err)
	}
	for _, d := range v.differences[:min(len(v.differences), complaintsMax)] {
		r.t.Log(d)
	}
	return v
}

func (r *run) readLife(folder string) life {
	r.t.Helper()
	l, err := readLife(folder)
	if err != nil {
		r.t.Fatal(err)
	}
	return l
}

// readLife reads the append-only file: the order of the tokens, and whose values were written.
func readLife(folder string) (life, error) {
	l := life{values: map[string]int{}}
	order, err := oracle.ReadAOF(folder, guardPrefix, l.take)
	l.order = order
	return l, err
}

// take counts a command that writes a value.
func (l life) take(command []string) {
	if len(command) < 3 || strings.HasPrefix(command[1], guardPrefix) {
		return
	}
	switch {
	case strings.EqualFold(command[0], "SET"):
		var value struct{ Serial string }
		if json.Unmarshal([]byte(command[2]), &value) != nil {
			value.Serial = command[2] // no value of the product's
		}
		l.values[value.Serial]++
	case strings.EqualFold(command[0], "HSET"):
		if at := slices.Index(command, "serial"); at >= 2 && at+1 < len(command) {
			l.values[command[at+1]]++
		}
	}
}

// books is what all ledgers say together.
type books struct {
	tier       map[string]int // by serial
	committed  map[string]bool
	rolledBack map[string]bool
	unknown    map[string]bool // ends that were not confirmed
	accepted   map[string]bool
	events     map[string]ledger.Event // the last accepted of each key, by its name
	doomed     map[string]bool
}

// called tells whether the coordinator was told after the commit, as tier 1 asks for. A call that follows a commit whose end is not known may come before it: a server that
// is shut down, or that lost the connection, may finish it later than the row is read.
func (b books) called(serial string) bool { return b.accepted[serial] && !b.unknown[serial] }

func (v *Verdict) read(paths []string) (books, error) {
	b := books{tier: map[string]int{}, committed: map[string]bool{}, rolledBack: map[string]bool{}, unknown: map[string]bool{}, accepted: map[string]bool{}, events: map[string]ledger.Event{}, doomed: map[string]bool{}}
	for _, path := range paths {
		lines, err := ledger.Read(path)
		if err != nil && lines == nil {
			return b, err
		}
		if err != nil {
			v.Gaps++
		}
		for _, l := range lines {
			switch l.Op {
			case ledger.Intent:
				b.tier[l.Serial] = l.Tier
				if l.Doomed {
					b.doomed[l.Serial] = true
				}
			case ledger.Committed:
				b.committed[l.Serial] = true
			case ledger.RolledBack:
				b.rolledBack[l.Serial] = true
			case ledger.Unknown:
				v.Unknown++
				b.unknown[l.Serial] = true
			case ledger.Forgotten:
				v.Forgotten++
			case ledger.Kept:
				v.Kept++
			case ledger.Accepted:
				b.accepted[l.Serial] = true
				for _, e := range l.Events {
					key := e.Mapping + " " + e.PK + " " + e.Key
					if e.Token > b.events[key].Token {
						b.events[key] = e
					}
				}
			}
		}
	}
	return b, nil
}

// examine judges.
func examine(ctx context.Context, e evidence, read func() life) (v Verdict, err error) {
	ctx, cancel := context.WithTimeout(ctx, judgeWithin)
	defer cancel()
	b, err := v.read(e.ledgers)
	if err != nil {
		return v, err
	}
	happened, last, err := journal(ctx, e.db)
	if err != nil {
		return v, err
	}
	v.transactions(b, happened)
	for _, m := range mappings() {
		report, err := oracle.Compare(ctx, e.db, e.cache, m.Mapping)
		if err != nil {
			return v, err
		}
		v.Keys += report.Rows
		for _, d := range report.Differences {
			v.difference(b, m, d, last[d.Key])
		}
	}
	v.written(b, append(slices.Clone(e.lives), read()))
	return v, nil
}

// journal gives the serials that were committed, and the last one of each key.
func journal(ctx context.Context, db *sql.DB) (happened map[string]bool, last map[string]string, err error) {
	rows, err := db.QueryContext(ctx, "SELECT k, serial FROM journal ORDER BY seq")
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	happened, last = map[string]bool{}, map[string]string{}
	for rows.Next() {
		var key, serial string
		if err := rows.Scan(&key, &serial); err != nil {
			return nil, nil, err
		}
		happened[serial], last[key] = true, serial
	}
	return happened, last, rows.Err()
}

// transactions holds the ledgers against the journal.
func (v *Verdict) transactions(b books, happened map[string]bool) {
	for serial := range happened {
		tier, announced := b.tier[serial]
		if !announced {
			v.Unannounced++
			continue
		}
		v.Commits[tier]++
		if b.rolledBack[serial] || b.doomed[serial] {
			v.Untrue++
			v.differences = append(v.differences, serial+" was said to be rolled back, and happened")
		}
		if tier == 1 && !b.called(serial) {
			v.Uncalled++
		}
	}
	for serial := range b.committed {
		if !happened[serial] {
			v.Untrue++
			v.differences = append(v.differences, serial+" was confirmed, and did not happen")
		}
	}
	for serial, tier := range b.tier {
		if !happened[serial] {
			v.RolledBack[tier]++
		}
	}
	v.Accepted = len(b.accepted)
	for _, e := range b.events {
		v.last = append(v.last, e)
	}
}

// difference finds out whether a key that is wrong may be so.
func (v *Verdict) difference(b books, m mapping, d oracle.Difference, serial string) {
	if d.Want == "" {
		v.Keys++
	}
	called := serial != "" && (m.tier > 1 || b.called(serial))
	switch {
	case serial != "" && !called:
		v.Explained++
		return
	case called:
		v.Lost++
	}
	v.Unequal++
	v.differences = append(v.differences, fmt.Sprintf("%s of %s, last changed by %q: wanted %s, have %s", d.Key, m.name, serial, d.Want, d.Have))
}

// written judges the order of tokens and the values of all lives of Redis. What several of them show counts once.
func (v *Verdict) written(b books, lives []life) {
	fell, phantoms := map[oracle.Step]bool{}, map[string]bool{}
	for _, l := range lives {
		for _, s := range l.order.Backwards {
			fell[s] = true
		}
		for serial := range l.values {
			if _, announced := b.tier[serial]; !announced || b.doomed[serial] || b.rolledBack[serial] {
				phantoms[serial] = true
			}
		}
	}
	whole := lives[len(lives)-1]
	v.GuardWrites, v.ValueWrites = whole.order.Writes, 0
	for _, n := range whole.values {
		v.ValueWrites += n
	}
	for s := range fell {
		v.differences = append(v.differences, fmt.Sprintf("%s went from %d to %d", s.Guard, s.From, s.To))
	}
	for serial := range phantoms {
		v.differences = append(v.differences, fmt.Sprintf("a value of %q was written", serial))
	}
	v.Backwards, v.Phantom = len(fell), len(phantoms)
}
