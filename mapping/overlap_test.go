package mapping

import "testing"

func TestOverlap_TellsTemplatesThatMayMeet(t *testing.T) {
	t.Parallel()
	integer, text := []string{"int"}, []string{"varchar(20)"}
	for _, c := range []struct {
		a, b     string
		of, with []string
		want     bool
	}{
		{"user:{a}", "user:{a}", integer, integer, true},
		{"user:{a}", "order:{a}", integer, integer, false},
		{"user:{a}", "user:{a}:profile", integer, integer, false}, // a colon is in no integer
		{"user:{a}", "user:{a}:profile", text, integer, true},
		{"user:{a}", "user:{a}:profile", integer, text, false},
		{"user:{a}", "user:-{a}", integer, integer, true},
		{"{a}", "user:{a}", text, integer, true},
		{"{a}", "user:{a}", integer, integer, false},
		{"user:{a}x", "user:{a}", integer, []string{"varbinary(9)"}, false},
		{"{{u{a}}}", "{a}", integer, text, true},
		{"u:{a}:{b}", "u:{a}", []string{"int", "int"}, integer, false},
		{"u:{a}:{b}", "u:{a}:{b}", []string{"int", "int"}, []string{"varchar(9)", "date"}, true},
		{"qg:x{a}", "user:{a}", integer, integer, false},
	} {
		if c.a == "qg:x{a}" {
			spec := keyedSpec(c.a, c.of...)
			spec.GuardPrefix = "g:"
			a, err := Compile(spec, 1, keyedColumns("utf8mb4_bin", c.of...))
			if err != nil || Overlap(a, keyed(t, c.b, c.with...)) == "" {
				t.Errorf("keys that begin with another mapping's guard prefix are accepted: %v", err)
			}
			continue
		}
		a, b := keyed(t, c.a, c.of...), keyed(t, c.b, c.with...)
		if one, other := Overlap(a, b), Overlap(b, a); (one != "") != c.want || (other != "") != c.want {
			t.Errorf("%s %s and %s %s: %q, %q; want overlap %t", c.a, c.of, c.b, c.with, one, other, c.want)
		}
	}
}

func TestOverlap_MappingsThatOnlyInvalidateMayShareKeys(t *testing.T) {
	t.Parallel()
	clears := func(prefix string) *Mapping {
		spec := keyedSpec("order:{a}", "int")
		spec.Mode, spec.GuardPrefix = Invalidate, prefix
		return compile(t, spec, keyedColumns("utf8mb4_bin", "int"))
	}
	if reason := Overlap(clears(""), clears("")); reason != "" {
		t.Errorf("two that invalidate: %s", reason)
	}
	if Overlap(clears(""), keyed(t, "order:{a}", "int")) == "" || Overlap(keyed(t, "order:{a}", "int"), clears("")) == "" {
		t.Error("one that writes what the other removes is accepted")
	}
	if Overlap(clears("q"), clears("qg:")) == "" {
		t.Error("guard prefixes of which one begins the other are accepted")
	}
}

// The pattern walk against the plain question: is some rendering of one also one of the other?
func FuzzOverlap(f *testing.F) {
	f.Add("x:{a}", "x:{a}:{b}", "1", "2", "3", "4")
	f.Add("{a}-{b}", "{b}:{a}", "1-2", "3", "3", "1-2")
	f.Fuzz(func(t *testing.T, one, other, a, b, c, d string) {
		types := []string{"varchar(20)", "varchar(20)"}
		x, errX := Compile(keyedSpec(one, types...), 1, keyedColumns("utf8mb4_bin", types...))
		y, errY := Compile(keyedSpec(other, types...), 1, keyedColumns("utf8mb4_bin", types...))
		if errX != nil || errY != nil {
			return
		}
		p, q := tupleOf(x, a, b), tupleOf(y, c, d)
		if p != nil && q != nil && x.Key(p) == y.Key(q) && Overlap(x, y) == "" {
			t.Errorf("%q and %q both render %q", one, other, x.Key(p))
		}
	})
}
