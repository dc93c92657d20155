package mapping

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func TestCanonicalJSON_OneValueHasOneForm(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]string{
		" { \"b\" : 1.10 , \"a\" : [ 1e5 , {} , [] , null , true , false ] } ": `{"a":[1e5,{},[],null,true,false],"b":1.10}`,
		`"\u00e9\u003c\ud83d\ude00\/"`:                                         `"é<😀/"`,
		`{"é":1,"z":2,"A":3}`:                                                  `{"A":3,"z":2,"é":1}`,
		`123456789012345678901234567890.10`:                                    `123456789012345678901234567890.10`,
		`"\\ud800"`:                                                            `"\\ud800"`,
		`"\ufffd"`:                                                             "\"\ufffd\"",
	} {
		if got, err := CanonicalJSON([]byte(src)); err != nil || string(got) != want {
			t.Errorf("%s: %s, %v; want %s", src, got, err, want)
		}
	}
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	if _, err := CanonicalJSON([]byte(deep(canonicalDepthMax + 1))); err != nil { // the innermost array is at depth canonicalDepthMax
		t.Errorf("at the depth limit: %v", err)
	}
	for _, src := range []string{
		"", " ", "x", "{", "[1,]", "{}{}", "1 2", `{"a":1,"a":1}`, `{"a":1,"\u0061":2}`, `[{"a":{"b":1,"b":1}}]`, "\"\xff\"", `"\ud800"`, `"\udc00\ud800"`, `"\ud800\\udc00"`, `01`, `+1`, `{1:2}`, `nul`,
		deep(canonicalDepthMax + 2),
	} {
		if got, err := CanonicalJSON([]byte(src)); err == nil {
			t.Errorf("%.40s has the canonical form %s", src, got)
		}
	}
}

func FuzzCanonicalJSON(f *testing.F) {
	for _, s := range []string{`{"b":[1,2.50],"a":null}`, `"\ud83d\ude00"`, `{"a":1,"a":2}`, `-0.0e-10`, `[[[`, `"\\\ud800"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		once, err := CanonicalJSON([]byte(s))
		if err != nil {
			return
		}
		if !json.Valid([]byte(s)) || !json.Valid(once) {
			t.Fatalf("%q, which becomes %q, is not JSON", s, once)
		}
		twice, err := CanonicalJSON(once)
		if err != nil || !bytes.Equal(once, twice) {
			t.Errorf("%q, then %q, %v", once, twice, err)
		}
		var spaced bytes.Buffer
		if err := json.Indent(&spaced, []byte(s), " ", "\t"); err != nil {
			t.Fatal(err)
		}
		if again, err := CanonicalJSON(spaced.Bytes()); err != nil || !bytes.Equal(once, again) {
			t.Errorf("%q with white space is %q, %v", once, again, err)
		}
		// The obvious twin: the standard library's idea of the same value, with its own order of members and its own escapes.
		if again, err := CanonicalJSON(throughStandardLibrary(t, []byte(s))); err != nil || !bytes.Equal(once, again) {
			t.Errorf("%q through the standard library is %q, %v", once, again, err)
		}
	})
}

func throughStandardLibrary(t *testing.T, src []byte) []byte {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(src))
	dec.UseNumber()
	var value any
	if err := dec.Decode(&value); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
