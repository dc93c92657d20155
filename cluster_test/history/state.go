package history

import (
	"slices"
	"strconv"
)

// state is the lock table after some operations. It is a value: a step makes a new one.
type state struct {
	ended  []string // sessions, sorted
	grants []grant  // oldest first
	queue  []*Op    // acquires that wait, first in line first
	tally  []status // of each acquire, by its place in the part
	top    uint64   // highest token given
	tops   []topOf
	key    string // all of the above, to be compared
}

// grant is a lock as one holder has it.
type grant struct {
	want    Want
	session string
	owner   string
	token   uint64 // 0: nobody ever saw it
	count   int    // 0: not reentrant
	of      int    // slot of the acquire
}

type topOf struct {
	name  string
	token uint64
}

// status is how an acquire stands.
type status uint8

const (
	unasked status = iota
	waiting
	unclaimed // granted, and the owner was not told yet
	claimed   // granted and told
	timedOut
	cancelled
	sessionEnded // while it waited
	lapsed
	released
)

func (s *state) clone() *state {
	return &state{ended: slices.Clone(s.ended), grants: slices.Clone(s.grants), queue: slices.Clone(s.queue), tally: slices.Clone(s.tally),
		top: s.top, tops: slices.Clone(s.tops)}
}

// seal makes the state comparable. It changes no more.
func (s *state) seal() *state {
	var b []byte
	text := func(t string) { b = append(append(b, t...), 0) }
	number := func(n int) { b = append(strconv.AppendInt(b, int64(n), 36), ',') }
	for _, id := range s.ended {
		text(id)
	}
	b = append(b, 1)
	for _, g := range s.grants {
		text(g.want.Name)
		number(g.of)
		number(int(g.want.Mode))
		number(g.count)
	}
	b = append(b, 1)
	for _, o := range s.queue {
		number(o.ID)
	}
	b = append(b, 1)
	for _, t := range s.tally {
		b = append(b, byte(t)+'0')
	}
	for _, t := range s.tops {
		text(t.name)
		b = append(strconv.AppendUint(b, t.token, 36), ',')
	}
	s.key = string(b)
	return s
}

func (s *state) has(session string) bool {
	_, over := slices.BinarySearch(s.ended, session)
	return !over
}

func (s *state) find(session, name string, token uint64) int {
	return slices.IndexFunc(s.grants, func(g grant) bool {
		return g.session == session && g.want.Name == name && g.token == token && token != 0
	})
}

func (s *state) queued(name string) bool {
	return slices.ContainsFunc(s.queue, func(o *Op) bool { return slices.Contains(o.names(), name) })
}

// fits tells whether a want is compatible with the holders, but for one that is about to go.
func (s *state) fits(w Want, but int) bool {
	sum := 0
	for i, g := range s.grants {
		if i == but || g.want.Name != w.Name {
			continue
		}
		if w.Mode == Exclusive || g.want.Mode != w.Mode {
			return false
		}
		sum += g.want.Permits
	}
	return w.Mode != Permits || sum+w.Permits <= w.Limit
}

// reentry finds the grant that a want counts up.
func (s *state) reentry(o *Op, w Want) int {
	if !o.Counts {
		return -1
	}
	return slices.IndexFunc(s.grants, func(g grant) bool {
		return g.count > 0 && g.want == w && g.session == o.Session && g.owner == o.Owner
	})
}

// give grants all that an acquire wants. It is false when a token that was seen is not higher than those before: floor is the highest of
// before this step, for the order of names in one entry is open.
func (s *state) give(o *Op, slot int, as status, floor uint64) bool {
	for i, w := range o.Wants {
		if at := s.reentry(o, w); at >= 0 {
			s.grants[at].count++
			if o.tokens[i] != 0 && o.tokens[i] != s.grants[at].token {
				return false
			}
			continue
		}
		if !s.rise(w.Name, o.tokens[i], floor) {
			return false
		}
		g := grant{want: w, session: o.Session, owner: o.Owner, token: o.tokens[i], of: slot}
		if o.Counts {
			g.count = 1
		}
		s.grants = append(s.grants, g)
	}
	s.tally[slot] = as
	return true
}

func (s *state) rise(name string, token, floor uint64) bool {
	if token == 0 {
		return true
	}
	at := slices.IndexFunc(s.tops, func(t topOf) bool { return t.name == name })
	if at < 0 {
		at, s.tops = len(s.tops), append(s.tops, topOf{name: name})
	}
	if token <= floor || token <= s.tops[at].token {
		return false
	}
	s.tops[at].token, s.top = token, max(s.top, token)
	return true
}

// free removes a grant. The acquire that it was given to is over with its last one.
func (s *state) free(at int) {
	of := s.grants[at].of
	s.grants = slices.Delete(s.grants, at, at+1)
	if !slices.ContainsFunc(s.grants, func(g grant) bool { return g.of == of }) && (s.tally[of] == claimed || s.tally[of] == unclaimed) {
		s.tally[of] = released
	}
}

func (s *state) unqueue(o *Op) {
	s.queue = slices.DeleteFunc(s.queue, func(other *Op) bool { return other == o })
}
