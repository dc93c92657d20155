package history

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Each lie is told about a history that is right and has an occasion for it.
func TestSpoil_EveryLieIsRefused(t *testing.T) {
	t.Parallel()
	for lie, ops := range map[string][]Op{
		lieTokensFall:   {try("a", "x", 1, 0, 1), release("a", "x", 1, 2, 3), try("b", "x", 2, 4, 5)},
		lieTwoHolders:   {try("a", "x", 1, 0, 1), refused("b", "x", 2, 3), release("a", "x", 1, 4, 5)},
		lieQueueBarged:  {try("a", "x", 1, 0, 1), wait("b", "x", 2, 2, 3), wait("c", "x", 3, 4, 5), release("a", "x", 1, 6, 7), attach(2, 8, 9, "x", 4), release("b", "x", 4, 10, 11), attach(3, 12, 13, "x", 5)},
		lieExpiredEarly: {try("a", "x", 1, 0, 1), {Kind: Renew, Session: "a", Outcome: Gone, Call: 11, Return: 12}},
	} {
		h := numbered(ops, map[string]int64{"a": 10})
		if wrong := wrongOf(Check(h, enough)); wrong != nil {
			t.Fatalf("before the lie: %v", wrong)
		}
		spoiled := Spoil(h)
		at := slices.IndexFunc(spoiled, func(s Spoiled) bool { return s.Lie == lie })
		if at < 0 {
			t.Errorf("no occasion was found where %s", lie)
			continue
		}
		if wrongOf(Check(spoiled[at].History, enough)) == nil {
			t.Errorf("nothing is found wrong where %s", lie)
		}
		if wrong := wrongOf(Check(h, enough)); wrong != nil {
			t.Errorf("the lie changed the history itself: %v", wrong)
		}
	}
}

// What merely may have been is no occasion: the lie could be the truth.
func TestSpoil_LeavesAloneWhatCouldHaveBeen(t *testing.T) {
	t.Parallel()
	for name, ops := range map[string][]Op{
		"the holder was releasing":     {try("a", "x", 1, 0, 1), refused("b", "x", 2, 3), release("a", "x", 1, 2, 5)},
		"the holder could have ended":  {try("a", "x", 1, 0, 1), refused("b", "x", 2, 30)},
		"readers could share":          {shared("a", "x", 1, 0, 1), refused("b", "x", 2, 3), release("a", "x", 1, 4, 5)},
		"grants at the same time":      {try("a", "x", 1, 0, 9), release("a", "x", 1, 10, 11), try("b", "x", 2, 4, 12)},
		"the session was closed by us": {finish("a", 1, 2), {Kind: Renew, Session: "a", Outcome: Gone, Call: 11, Return: 12}},
	} {
		for _, s := range Spoil(numbered(ops, map[string]int64{"a": 10})) {
			t.Errorf("%s: it was said that %s", name, s.Lie)
		}
	}
}

func TestCheckTokens_HoldsAllNamesToOneCounter(t *testing.T) {
	t.Parallel()
	right := numbered([]Op{try("a", "x", 1, 0, 1), try("b", "y", 2, 2, 3), wait("c", "x", 3, 4, 5), attach(3, 8, 9, "x", 7)}, nil)
	if n, err := CheckTokens(right, numbered([]Op{try("d", "z", 5, 4, 6)}, nil)); err != nil || n != 4 {
		t.Errorf("%d grants: %v", n, err)
	}
	for name, ops := range map[string][]Op{
		"falls over names": {try("d", "z", 1, 4, 6)},
		"twice":            {try("d", "z", 7, 4, 6)},
		"falls later":      {try("d", "z", 6, 10, 11)},
	} {
		if _, err := CheckTokens(right, numbered(ops, nil)); err == nil {
			t.Errorf("%s: nothing wrong", name)
		}
	}
}

func TestCheck_PartsAreWhatHasToDoWithEachOther(t *testing.T) {
	t.Parallel()
	ops := []Op{try("a", "v", 1, 0, 1), try("b", "w", 2, 0, 1), ask("c", 3, 2, 3, Want{Name: "x"}, Want{Name: "y"}),
		ask("d", 0, 4, 5, Want{Name: "y"}, Want{Name: "z"}), finish("a", 6, 7)}
	ops[3] = with(ops[3], Held)
	verdicts := Check(numbered(ops, map[string]int64{"b": 3}), enough)
	var names [][]string
	for _, v := range verdicts {
		names = append(names, v.Names)
	}
	want := [][]string{{"v"}, {"w"}, {"x", "y", "z"}}
	if !slices.EqualFunc(names, want, slices.Equal) || wrongOf(verdicts) != nil {
		t.Errorf("%v: %v", names, wrongOf(verdicts))
	}
	if verdicts[0].Ops != 2 || verdicts[1].Ops != 1 {
		t.Errorf("the end of a session belongs to what it asked for: %d operations, and an expiry after all is left out: %d", verdicts[0].Ops, verdicts[1].Ops)
	}
}

func TestRecorder_UnansweredOperationsNeverReturn(t *testing.T) {
	t.Parallel()
	r := NewRecorder(time.Now())
	open := r.Begin(Op{Kind: Finish, Session: "a"})
	done := r.Begin(Op{Kind: Finish, Session: "b"})
	r.End(done, func(o *Op) { o.Outcome = Done })
	r.Renewed("a", time.Second, 5)
	r.Renewed("a", time.Second, 3) // an answer that came late says nothing new
	h := r.History()
	if h.Ops[0].Return != Never || h.Ops[1].Return == Never || h.Ops[1].Return < h.Ops[1].Call || open.ID == done.ID {
		t.Errorf("%+v", h.Ops)
	}
	if h.EarliestEnd["a"] != int64(time.Second)+5 {
		t.Errorf("may end at %d", h.EarliestEnd["a"])
	}
}

func TestVerdict_WrongHistoryIsLeftAsJSONAndAsAPicture(t *testing.T) {
	t.Parallel()
	verdicts := Check(numbered([]Op{try("a", "x", 1, 0, 1), try("b", "x", 2, 2, 3)}, nil), enough)
	if wrongOf(verdicts) == nil {
		t.Fatal("nothing wrong")
	}
	dir := t.TempDir()
	if err := verdicts[0].Write(dir, "two"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"two.json", "two.html"} {
		if !holds(t, dir, name, "x") {
			t.Errorf("%s does not tell of the lock", name)
		}
	}
}

func holds(t *testing.T, dir, name, text string) bool {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(b), text)
}
