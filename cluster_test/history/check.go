package history

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// Verdict is what was found about one part of a history, or about all of it where no order was needed to find it wrong.
type Verdict struct {
	Names []string
	Ops   int
	Wrong error // nil: there is an order that the rules allow

	part []*Op
}

// errUndecided is a part that has too many orders to try all in time.
var errUndecided = errors.New("undecided")

// Check decides about a history, and gives each of its parts at most so long.
func Check(h History, each time.Duration) []Verdict {
	ops, err := complete(h)
	if err != nil {
		return []Verdict{{Names: []string{"everything"}, Ops: len(h.Ops), Wrong: err}}
	}
	var out []Verdict
	for _, part := range parts(ops) {
		out = append(out, decide(part, each))
	}
	return out
}

func decide(part []*Op, each time.Duration) Verdict {
	v := Verdict{Ops: len(part), part: part}
	for _, o := range part {
		v.Names = append(v.Names, o.names()...)
	}
	slices.Sort(v.Names)
	v.Names = slices.Compact(v.Names)
	switch porcupine.CheckOperationsTimeout(model(part), operations(part), each) {
	case porcupine.Illegal:
		v.Wrong = fmt.Errorf("%w: no order of the %d operations on %s obeys the rules", errImpossible, len(part), strings.Join(v.Names, ", "))
	case porcupine.Unknown:
		v.Wrong = fmt.Errorf("%w after %s: %d operations on %s", errUndecided, each, len(part), strings.Join(v.Names, ", "))
	}
	return v
}

// drawWithin bounds what a picture of a wrong part may take: the search is done again for it.
const drawWithin = 30 * time.Second

// Write leaves a wrong part in a folder, as JSON and as a page with what Porcupine could order of it.
func (v Verdict) Write(dir, name string) error {
	text, err := json.MarshalIndent(v.part, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, name+".json"), text, 0o644); err != nil {
		return err
	}
	if v.part == nil {
		return nil
	}
	m := model(v.part)
	_, info := porcupine.CheckOperationsVerbose(m, operations(v.part), drawWithin)
	return porcupine.VisualizePath(m, info, filepath.Join(dir, name+".html"))
}
