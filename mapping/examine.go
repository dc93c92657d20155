package mapping

// Examined is what one look at a key says: the verdict, and the digests of what it should hold and of what it holds. A digest without its Has flag stands for nothing.
type Examined struct {
	Verdict                Verdict
	Expected, Actual       [16]byte
	HasExpected, HasActual bool
}

// Examiner is Compare, DigestRow and DigestActual in one, for those who ask for all three about many keys: each row is rendered once, into room that is used again. The canonical
// form of a row is made from its cells and not from its rendering, so the digests of the two sides have no step in common but the last.
// It belongs to one goroutine.
type Examiner struct {
	m       *Mapping
	value   []byte
	fields  []Field
	managed []Field
	parts   []byte
}

// NewExaminer makes one for a mapping.
func NewExaminer(m *Mapping) *Examiner { return &Examiner{m: m} }

// Examine judges what Redis holds under one of the row's keys. An absent key that is allowed to be absent has no digest on either side. The error is Compare's.
func (x *Examiner) Examine(key string, row *Row, actual Actual) (Examined, error) {
	m := x.m
	var out Examined
	if m.spec.Mode == Invalidate {
		verdict, err := m.Compare(row.Key, row, actual)
		return Examined{Verdict: verdict}, err
	}
	want, err := m.contentIn(x.value[:0], x.fields[:0], row.Key, row)
	if err != nil {
		return out, err
	}
	x.keep(want)
	out.Verdict = m.compareContent(want, row, actual)
	if out.Verdict == Equal && actual.Type == TypeNone {
		return out, nil
	}
	if !m.missing(row) {
		out.Expected, out.HasExpected = x.digestRow(key, row, want)
	}
	if out.Verdict == Equal && actual.Type == TypeString && out.HasExpected {
		out.Actual, out.HasActual = out.Expected, true // the very same bytes
		return out, nil
	}
	out.Actual, out.HasActual = x.digestActual(key, actual)
	return out, nil
}

// roomMax is the largest value whose room is kept for the next.
const roomMax = 1 << 20

func (x *Examiner) keep(want content) {
	if x.m.spec.Encoding == JSON && cap(want.Value) <= roomMax {
		x.value = want.Value
	}
	if len(want.Fields) > 0 {
		x.fields = want.Fields
	}
	if cap(x.parts) > roomMax {
		x.parts = nil
	}
}

func (x *Examiner) digestRow(key string, row *Row, want content) (d [16]byte, ok bool) {
	switch x.m.spec.Encoding {
	case Hash:
		x.parts = appendHash(x.parts[:0], key, want.Fields)
		return digestParts(x.parts), present(want.Fields) > 0
	case JSON:
		parts, err := x.m.appendCanonical(append(beginDigest(x.parts[:0], key, kindJSON), make([]byte, lengthBytes)...), row)
		if err == nil {
			x.parts = parts
			return digestParts(parts), true // an object stands for something
		}
	}
	x.parts = appendPart(beginDigest(x.parts[:0], key, kindRaw), want.Value)
	return digestParts(x.parts), !x.m.standsForNothing(want.Value)
}

func (x *Examiner) digestActual(key string, actual Actual) (d [16]byte, ok bool) {
	if actual.Type != TypeHash || x.m.spec.Encoding != Hash {
		return x.m.DigestActual(key, actual)
	}
	x.managed = x.m.managed(x.managed[:0], actual.Fields)
	x.parts = appendHash(x.parts[:0], key, x.managed)
	return digestParts(x.parts), present(x.managed) > 0
}

// appendCanonical appends what CanonicalJSON makes of the row's rendering, whose cells have been checked, and puts its length before it.
func (m *Mapping) appendCanonical(b []byte, row *Row) ([]byte, error) {
	start := len(b)
	for at, i := range m.byName {
		b = append(b, choose[byte](at == 0, '{', ','))
		b = append(append(b, m.names[i]...), ':')
		cell := row.Values[i]
		if cell.Null || m.columns[i].Kind != KindJSON {
			b = m.appendCell(b, i, cell)
			continue
		}
		var err error
		if b, err = appendCanonicalJSON(b, cell.Bytes, 1); err != nil {
			return nil, err
		}
	}
	return putLength(append(b, '}'), start), nil
}
