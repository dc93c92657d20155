package figure_test

import (
	"bytes"
	"math"
	"testing"

	"go.uber.org/goleak"

	"github.com/quiescehq/quiesce/bench/figure"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestGoal_IsMetAtItsLimit(t *testing.T) {
	t.Parallel()
	atLeast, atMost := figure.Goal{Limit: 6}, figure.Goal{Limit: 0.4, AtMost: true}
	for value, want := range map[float64]bool{5.99: false, 6: true, 6.01: true} {
		if atLeast.Met(value) != want {
			t.Errorf("%v of at least 6: %v", value, !want)
		}
	}
	for value, want := range map[float64]bool{0.39: true, 0.4: true, 0.41: false} {
		if atMost.Met(value) != want {
			t.Errorf("%v of at most 0.4: %v", value, !want)
		}
	}
}

func TestRounded_KeepsFourDigits(t *testing.T) {
	t.Parallel()
	for value, want := range map[float64]float64{0: 0, 1.23456: 1.235, 12345.6: 12350, 0.000123456: 0.0001235} {
		if got := figure.Rounded(value); got != want {
			t.Errorf("%v became %v, want %v", value, got, want)
		}
	}
}

func TestFigures_AreOneLineWithTheirOrderAndNothingThatWasNotMeasured(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	f := figure.Figures{"b": 12345.6, "a": 0, "c": math.NaN()}
	if err := f.Print(&out); err != nil || out.String() != `{"a":0,"b":12350}`+"\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
	if f["b"] != 12345.6 {
		t.Error("printing changed a figure")
	}
	out.Reset()
	f.Compare(&out, []figure.Goal{{Figure: "a", Limit: 0, AtMost: true}, {Figure: "b", Limit: 1, AtMost: true}, {Figure: "absent", Limit: 1}})
	if want := "\ngoals\tmeasured\tgoal\t\t\na\t0.00\t<= 0.0\tmet\t\nb\t12345.60\t<= 1.0\tNOT met\t\n"; out.String() != want {
		t.Errorf("%q", out.String())
	}
}
