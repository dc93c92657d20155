package reconcile

import (
	"strings"
	"testing"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/mapping"
)

// While a cache is moved from one codec to the next, it holds values of both. As JSON values they are the same, so they are no difference; as fields of a hash they are bytes, and are.
func TestTask_ValuesOfTwoCodecs(t *testing.T) {
	t.Parallel()
	const rows, moved = 2_000, 700
	for _, test := range []struct {
		encoding mapping.Encoding
		want     fsm.PassCounts
	}{
		{mapping.JSON, fsm.PassCounts{Rows: rows, Equal: moved, FormatOnly: rows - moved}},
		{mapping.Hash, fsm.PassCounts{Rows: rows, Equal: moved, Stale: rows - moved}},
	} {
		t.Run(string(test.encoding), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rows, func(s *mapping.Spec) { s.Encoding = test.encoding })
			w.exec(`ALTER TABLE orders ADD doc JSON`)
			w.exec(`UPDATE orders SET doc = CONCAT('{"b": ', id, ', "a": [1.10, 2]}')`)
			spec := w.mapping.Spec()
			spec.Columns, spec.Key = append(spec.Columns, mapping.ColumnSpec{Name: "doc"}), strings.Replace(spec.Key, "order:", "doc:", 1)
			w.put(spec)
			w.fill()
			if p := w.run(fsm.PassDryRun, 0, 0); p.Counts.Equal != rows {
				t.Fatalf("one codec: %+v", p.Counts)
			}
			spec.Codec = 2
			w.put(spec)
			for i := range moved {
				w.compactDoc(w.key(i))
			}
			p := w.run(fsm.PassRewrite, unlimited, 20)
			want := test.want
			want.Repaired = want.Stale
			if p.State != fsm.PassDone || p.Counts != want {
				t.Fatalf("two codecs: %s %q %+v, want %+v", p.State, p.Reason, p.Counts, want)
			}
			w.deliverAll()
			want = fsm.PassCounts{Rows: rows, Equal: rows - want.FormatOnly, FormatOnly: want.FormatOnly}
			if p := w.run(fsm.PassDryRun, 0, 0); p.Counts != want {
				t.Errorf("after the repair: %+v, want %+v", p.Counts, want)
			}
		})
	}
}

// compactDoc stores a key as an application that has the new codec already does.
func (w *world) compactDoc(key string) {
	if w.mapping.Spec().Encoding == mapping.Hash {
		w.cache.do("HSET", key, "doc", strings.ReplaceAll(w.cache.do("HGET", key, "doc"), " ", ""))
		return
	}
	body, doc, _ := strings.Cut(w.cache.do("GET", key), `"doc":`)
	w.cache.do("SET", key, body+`"doc":`+strings.ReplaceAll(doc, " ", ""))
}
