package figure

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
)

// Figures are results under their names for programs. What was not measured is absent.
type Figures map[string]float64

// Print writes one line of JSON, in the order of the names.
func (f Figures) Print(out io.Writer) error {
	short := make(Figures, len(f))
	for name, value := range f {
		if !math.IsNaN(value) && !math.IsInf(value, 0) { // of nothing: 0 would look like a result
			short[name] = Rounded(value)
		}
	}
	line, err := json.Marshal(short)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n", line)
	return err
}

// Rounded keeps four digits: the machine repeats fewer.
func Rounded(v float64) float64 {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0
	}
	scale := math.Pow(10, 3-math.Floor(math.Log10(math.Abs(v))))
	return math.Round(v*scale) / scale
}

// Goal is what a figure is to reach.
type Goal struct {
	Figure string
	Limit  float64
	AtMost bool
}

// Met tells whether a value reaches the goal.
func (g Goal) Met(value float64) bool { return value == g.Limit || (value < g.Limit) == g.AtMost }

// Compare writes a row for each goal whose figure was measured.
func (f Figures) Compare(w io.Writer, goals []Goal) {
	fmt.Fprint(w, "\ngoals\tmeasured\tgoal\t\t\n")
	for _, g := range goals {
		value, measured := f[g.Figure]
		if !measured {
			continue
		}
		sign, verdict := ">=", "met"
		if g.AtMost {
			sign = "<="
		}
		if !g.Met(value) {
			verdict = "NOT met"
		}
		fmt.Fprintf(w, "%s\t%.2f\t%s %.1f\t%s\t\n", g.Figure, value, sign, g.Limit, verdict)
	}
}
