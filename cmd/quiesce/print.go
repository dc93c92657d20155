package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"
)

const (
	formatTable = "table"
	formatJSON  = "json"
	formatYAML  = "yaml"
)

var formats = []string{formatTable, formatJSON, formatYAML}

func knownFormat(f string) bool { return slices.Contains(formats, f) }

// show prints an answer of the API: as it is, for programs, or as a person reads it.
func (c *cli) show(answer any, person func(io.Writer)) error {
	if c.format == formatTable {
		person(c.out)
		return nil
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(answer)
	out := text.Bytes()
	if err == nil && c.format == formatYAML {
		out, err = toYAML(out)
	}
	if err != nil {
		return err
	}
	_, err = c.out.Write(out)
	return err
}

// toYAML goes by way of JSON, so that names, order and numbers are those of the API.
func toYAML(text []byte) ([]byte, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return nil, err
	}
	unstyle(&document)
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	err := encoder.Encode(&document)
	return out.Bytes(), err
}

// unstyle drops JSON's braces; the encoder chooses quotes where they are needed.
func unstyle(n *yaml.Node) {
	n.Style = 0
	for _, child := range n.Content {
		unstyle(child)
	}
}

// table is columns for a person.
type table struct {
	head []string
	rows [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) write(w io.Writer) {
	tabs := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{t.head}, t.rows...) {
		if row == nil {
			continue
		}
		for i, cell := range row {
			row[i] = orDash(plain(cell))
		}
		row[len(row)-1] = strings.TrimRight(row[len(row)-1], " ")
		fmt.Fprintln(tabs, strings.Join(row, "\t"))
	}
	_ = tabs.Flush() // as with all printing, a reader that is gone is no error of ours
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// plain keeps texts that others chose, such as values and owners, from moving the cursor or breaking the lines.
func plain(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return s
	}
	quoted := strconv.Quote(s)
	return quoted[1 : len(quoted)-1]
}

// span tells a duration as exactly as a person needs it.
func span(ms uint64) string {
	d := time.Duration(ms) * time.Millisecond
	switch {
	case ms == 0:
		return "0s"
	case d < time.Second:
		return fmt.Sprintf("%dms", ms)
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Hour:
		return d.Round(time.Second).String()
	}
	return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
}

func number[N int | uint64](n N) string { return fmt.Sprint(n) }

// spanIf is empty for nothing.
func spanIf(ms uint64) string {
	if ms == 0 {
		return ""
	}
	return span(ms)
}
