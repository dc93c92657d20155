package mysql

import "testing"

func TestPosition_KnowsWhatAServerLacks(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		state, earlier string
		holds          bool
	}{
		{"0-1-270,1-2-8", "0-1-270,1-2-8", true},
		{"0-1-271,1-2-8", "0-1-270", true},
		{"0-1-269,1-2-8", "0-1-270", false},
		{"0-2-400", "0-1-270", false}, // a new primary has its own stream beside the old one's
		{"0-1-270,0-2-400", "0-1-270", true},
		{"", "", true},
		{"", "0-1-1", false},
	} {
		if got := holdsMariaDB(tc.state, tc.earlier); got != tc.holds {
			t.Errorf("%q holds %q: %v", tc.state, tc.earlier, got)
		}
	}
}
