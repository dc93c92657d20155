package main

import (
	"context"
	"crypto/sha1"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/quiescehq/quiesce/bench/process"
	"github.com/quiescehq/quiesce/mapping"
	"github.com/quiescehq/quiesce/mysql"
)

// What the delivery does at its busiest, by its defaults.
const (
	pipelineWorkers = 4
	scriptKeys      = 100 // of one call of the script; the calls of a batch go in one pipeline
	scriptFile      = "rediscache/script.go"
	scriptConst     = "applySource"
	deadlineMillis  = 5_000
	guardMillis     = 60_000
)

var (
	errScript  = errors.New("the script is not where it was")
	errOutcome = errors.New("the script did not apply a write")
)

// pipeline is the delivery without a coordinator: SELECT … IN (500), the codecs of package mapping, the product's own script. It keeps no events, asks nobody who he is, and
// acknowledges nothing.
type pipeline struct {
	w       *world
	rule    *mapping.Mapping
	source  *mysql.Source
	columns string
	script  string
	sha     string
	rows    []string // in the order in which the coordinator's events are
	tokens  atomic.Uint64
}

func newPipeline(ctx context.Context, w *world, root string, encoding mapping.Encoding, rows int) (*pipeline, error) {
	p := &pipeline{w: w}
	var err error
	if p.source, err = mysql.Open(mysql.Config{Name: sourceName, DSN: w.DSN}); err != nil {
		return nil, err
	}
	spec := itemsSpec(string(encoding), encoding, mapping.WriteThrough)
	found, err := p.source.Inspect(ctx, spec)
	if err == nil {
		err = found.Fault()
	}
	if err == nil {
		p.rule = found.Mapping
		p.script, err = readScript(filepath.Join(root, scriptFile))
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	sum := sha1.Sum([]byte(p.script)) // the name that Redis gives it
	p.sha = hex.EncodeToString(sum[:])
	p.columns = "id, name, n, price, note, changed, CAST(weight + 0e0 AS CHAR)"
	for id := range rows {
		p.rows = append(p.rows, strconv.Itoa(id+1))
	}
	slices.Sort(p.rows)
	return p, nil
}

// Close ends the pool.
func (p *pipeline) Close() error { return p.source.Close() }

// readScript finds the script in the source, for the product shows it to nobody.
func readScript(path string) (string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		return "", err
	}
	var text string
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && spec.Names[0].Name == scriptConst && len(spec.Values) == 1 {
			if literal, ok := spec.Values[0].(*ast.BasicLit); ok {
				text, err = strconv.Unquote(literal.Value)
			}
		}
		return true
	})
	if err == nil && text == "" {
		err = fmt.Errorf("%w: no constant %s in %s", errScript, scriptConst, path)
	}
	return text, err
}

// run delivers every row once.
func (p *pipeline) run(ctx context.Context) error {
	if err := p.w.Cache.ScriptLoad(ctx, p.script).Err(); err != nil {
		return err
	}
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range pipelineWorkers {
		group.Go(func() error {
			mysql, err := p.w.DB.Conn(ctx)
			if err != nil {
				return err
			}
			defer func() { _ = mysql.Close() }()
			for {
				first := int(next.Add(deliverRows)) - deliverRows
				if first >= len(p.rows) {
					return nil
				}
				if err := p.batch(ctx, mysql, p.rows[first:min(first+deliverRows, len(p.rows))]); err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}

func (p *pipeline) batch(ctx context.Context, conn *sql.Conn, ids []string) error {
	began := time.Now().UnixMilli()
	writes, err := p.read(ctx, conn, ids)
	if err != nil {
		return err
	}
	pipe := p.w.Cache.Pipeline()
	var replies []*redis.Cmd
	for part := range slices.Chunk(writes, scriptKeys) {
		replies = append(replies, pipe.EvalSha(ctx, p.sha, p.names(part), p.values(began, part)...))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return err
	}
	for _, r := range replies {
		codes, err := r.Int64Slice()
		if err != nil {
			return err
		}
		for _, code := range codes {
			if code != 1 {
				return fmt.Errorf("%w: it answers %d", errOutcome, code)
			}
		}
	}
	return nil
}

func (p *pipeline) read(ctx context.Context, conn *sql.Conn, ids []string) ([]mapping.Write, error) {
	rows, err := conn.QueryContext(ctx, "SELECT "+p.columns+" FROM items WHERE id IN ("+strings.Join(ids, ",")+")")
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	raw := make([]sql.RawBytes, len(p.rule.Columns()))
	places := make([]any, len(raw))
	for i := range raw {
		places[i] = &raw[i]
	}
	writes := make([]mapping.Write, 0, len(ids))
	cells := make([]mapping.Cell, len(raw))
	for rows.Next() {
		if err := rows.Scan(places...); err != nil {
			return nil, err
		}
		for i, value := range raw {
			cells[i] = mapping.Cell{Bytes: slices.Clone(value), Null: value == nil}
		}
		key := []string{string(raw[0])}
		if writes, err = p.rule.AppendWrites(writes, key, &mapping.Row{Key: key, Values: cells}, 0); err != nil {
			return nil, err
		}
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	if len(writes) != len(ids) {
		return nil, fmt.Errorf("%w: %d rows of %d", errDiffers, len(writes), len(ids))
	}
	return writes, nil
}

func (p *pipeline) names(writes []mapping.Write) []string {
	names := make([]string, 0, 2*len(writes))
	for _, w := range writes {
		names = append(names, w.Key, w.Guard)
	}
	return names
}

// values are the script's ARGV: see the script.
func (p *pipeline) values(began int64, writes []mapping.Write) []any {
	values := make([]any, 0, 5+20*len(writes))
	values = append(values, began, began+deadlineMillis, 0, guardMillis, 0)
	for _, w := range writes {
		values = append(values, p.tokens.Add(1))
		if w.Op == mapping.OpSet {
			values = append(values, "set", w.TTLMillis, 1, 0, w.Value)
			continue
		}
		removed := 0
		for _, f := range w.Fields {
			if f.Null {
				removed++
			}
		}
		values = append(values, "hash", w.TTLMillis, 2*(len(w.Fields)-removed), removed)
		for _, f := range w.Fields {
			if !f.Null {
				values = append(values, f.Name, f.Value)
			}
		}
		for _, f := range w.Fields {
			if f.Null {
				values = append(values, f.Name)
			}
		}
	}
	return values
}

func ownCPU() (time.Duration, error) { return process.CPU(os.Getpid()) }
