package rolling

import (
	"fmt"
	"testing"

	"github.com/quiescehq/quiesce/api"
)

// moment is a line of a history that a test writes.
type moment struct {
	at    int64
	state string
}

func lived(name string, incarnation, grant uint64, history ...moment) Life {
	l := Life{Instance: api.Instance{ID: fmt.Sprint(name, incarnation), Name: name, Incarnation: incarnation, Intent: api.IntentRestart}}
	l.Grant = grant
	for _, m := range history {
		l.History = append(l.History, api.Moment{State: m.state})
		l.At = append(l.At, m.at)
	}
	return l
}

// gone is a life that was ready long ago, was granted at one time and left at another.
func gone(name string, incarnation, grant uint64, granted, left int64) Life {
	return lived(name, incarnation, grant, moment{-1000, api.StateRegistered}, moment{-1000, api.StateReady}, moment{granted, api.StateQueued},
		moment{granted, api.StateDraining}, moment{left, api.StateDrained}, moment{left, api.StateLeft})
}

func fresh(name string, incarnation uint64, ready int64) Life {
	return lived(name, incarnation, 0, moment{ready, api.StateRegistered}, moment{ready, api.StateReady})
}

// Each way in which a place can be taken is overdrawn once, and kept once.
func TestOverspent_SeesEveryGrantBeyondTheBudget(t *testing.T) {
	t.Parallel()
	s := api.Service{MaxUnavailable: 1, SettleMs: 10, RestartHoldMs: 100, LostHoldMs: 100}
	overdrawn := gone("b", 2, 8, 12, 30)
	overdrawn.Overdraft = true
	lost := lived("a", 1, 0, moment{-1000, api.StateReady}, moment{10, api.StateLost})
	never := lived("b", 2, 8, moment{10, api.StateRegistered}, moment{12, api.StateDraining}, moment{20, api.StateLeft})
	paused := lived("c", 3, 0, moment{-1000, api.StateReady}, moment{5, api.StatePaused})
	crowded := fresh("a", 3, 15) // a long history has lost the line that says when it was ready
	crowded.History[1].State = api.StateQueued
	for len(crowded.History) < historyMax {
		crowded.History, crowded.At = append(crowded.History, api.Moment{State: api.StateQueued}), append(crowded.At, 500)
	}
	for name, tc := range map[string]struct {
		lives         []Life
		grants, wrong int
	}{
		"one after the other":               {[]Life{gone("a", 1, 7, 0, 10), gone("b", 2, 8, 30, 40), fresh("a", 3, 15)}, 2, 0},
		"as soon as it has settled":         {[]Life{gone("a", 1, 7, 0, 10), gone("b", 2, 8, 25, 40), fresh("a", 3, 15)}, 2, 0},
		"after one with a long history":     {[]Life{gone("a", 1, 7, 0, 10), gone("b", 2, 8, 30, 40), crowded}, 2, 0},
		"before it has settled":             {[]Life{gone("a", 1, 7, 0, 10), gone("b", 2, 8, 24, 40), fresh("a", 3, 15)}, 2, 1},
		"while a place is kept":             {[]Life{gone("a", 1, 7, 0, 10), gone("b", 2, 8, 12, 40)}, 2, 1},
		"when a place is kept no more":      {[]Life{gone("a", 1, 7, 0, 10), gone("b", 2, 8, 110, 140)}, 2, 0},
		"while another drains":              {[]Life{gone("a", 1, 7, 0, 10), gone("b", 2, 8, 9, 40)}, 2, 1},
		"two in one entry":                  {[]Life{gone("a", 1, 7, 0, 10), gone("b", 2, 8, 0, 10)}, 2, 1},
		"while the place of a lost is kept": {[]Life{lost, gone("b", 2, 8, 12, 40)}, 1, 1},
		"before it was lost":                {[]Life{lost, gone("b", 2, 8, 9, 40)}, 1, 0},
		"while another is paused":           {[]Life{gone("b", 2, 8, 9, 40), paused}, 1, 1},
		"as an overdraft":                   {[]Life{gone("a", 1, 7, 0, 20), overdrawn}, 1, 0},
		"of one that never served":          {[]Life{gone("a", 1, 7, 0, 20), never}, 1, 0},
	} {
		grants, wrong := Overspent(tc.lives, s)
		if grants != tc.grants || len(wrong) != tc.wrong {
			t.Errorf("%s: %d grants, %v", name, grants, wrong)
		}
	}
}

// What a sample shows is judged by the count of the coordinator and by the states of the instances, each by itself.
func TestOverspent_SampleIsJudgedTwice(t *testing.T) {
	t.Parallel()
	good := api.Service{Available: 2, Unavailable: 1, Live: map[string]int{api.StateReady: 2, api.StateDraining: 1}}
	if why := overspentNow(good); why != "" {
		t.Errorf("a budget that is kept: %s", why)
	}
	for _, bad := range []api.Service{
		{Available: 2, Unavailable: 2, Live: good.Live},
		{Available: 1, Unavailable: 1, Live: good.Live},
		{Available: 2, Unavailable: 1, Live: map[string]int{api.StateReady: 2, api.StateDraining: 1, api.StateDrained: 1}},
		{Available: 2, Unavailable: 1, Live: map[string]int{api.StateReady: 1}},
	} {
		if overspentNow(bad) == "" {
			t.Errorf("taken for good: %+v", bad)
		}
	}
}
