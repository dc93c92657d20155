package fsm

// LockMode says who may hold a lock together.
type LockMode uint8

const (
	Exclusive LockMode = iota // one holder
	Shared                    // any number of shared holders
	Permits                   // holders whose permits add up to the limit at most
)

// LockWant is one name that somebody wants, or waits for.
type LockWant struct {
	Name    string   `cbor:"1,keyasint"`
	Mode    LockMode `cbor:"2,keyasint,omitempty"`
	Permits uint64   `cbor:"3,keyasint,omitempty"` // of mode Permits only
	Limit   uint64   `cbor:"4,keyasint,omitempty"` // of mode Permits only
}

func (w LockWant) valid() bool {
	switch {
	case w.Name == "" || len(w.Name) > NameBytesMax || w.Mode > Permits:
		return false
	case w.Mode == Permits:
		return w.Permits > 0 && w.Permits <= w.Limit && w.Limit <= PermitsMax
	}
	return w.Permits == 0 && w.Limit == 0
}

// Grant is a lock as one holder has it. A lock has no row of its own: it is the grants of its name. The token is the fencing token: it
// rises with each grant of any lock.
type Grant struct {
	Name         string   `cbor:"1,keyasint"`
	Session      string   `cbor:"2,keyasint"`
	Owner        string   `cbor:"3,keyasint,omitempty"` // who of the session
	Mode         LockMode `cbor:"4,keyasint,omitempty"`
	Permits      uint64   `cbor:"5,keyasint,omitempty"`
	Limit        uint64   `cbor:"6,keyasint,omitempty"`
	Token        uint64   `cbor:"7,keyasint"`
	Count        uint64   `cbor:"8,keyasint,omitempty"` // how often a reentrant owner holds it; 0: it is not reentrant
	GrantedAt    uint64   `cbor:"9,keyasint"`           // cluster time
	Ticket       uint64   `cbor:"10,keyasint,omitempty"`
	DelayMs      uint64   `cbor:"11,keyasint,omitempty"` // lock-delay after an expiry of the session
	Value        string   `cbor:"12,keyasint,omitempty"`
	RevokeAt     uint64   `cbor:"13,keyasint,omitempty"` // cluster time: it is taken away then
	RevokeReason string   `cbor:"14,keyasint,omitempty"`
	RevokedBy    string   `cbor:"15,keyasint,omitempty"`
	Index        uint64   `cbor:"16,keyasint"`
}

func (g Grant) party() party { return party{g.Session, g.Owner} }
func (g Grant) revocation() timer {
	return timer{due: g.RevokeAt, what: timerRevoke, key: g.Name, id: g.Token}
}
func (g Grant) granted() GrantedTo { return GrantedTo{Name: g.Name, Token: g.Token, Count: g.Count} }

// grantKey orders the grants of a name by token. Names hold no zero byte: validName sees to it.
func grantKey(name string, token uint64) string {
	b := make([]byte, 0, len(name)+1+tokenDigits)
	b = append(append(b, name...), 0)
	return string(appendHex(b, token, tokenDigits))
}

const tokenDigits = 14 // of TokenMax, in hexadecimal

func appendHex(b []byte, n uint64, digits int) []byte {
	for shift := 4 * (digits - 1); shift >= 0; shift -= 4 {
		b = append(b, "0123456789abcdef"[n>>shift&15])
	}
	return b
}

func nameOfGrant(key string) string { return key[:len(key)-1-tokenDigits] }

// party is who waits for whom: an owner of a session.
type party struct{ session, owner string }

func (p party) group() string { return p.session + "\x00" + p.owner }

type partyOfLock struct {
	name string
	party
}

// use sums up what holders and waiters make of a name; derived.
type use struct {
	mode       LockMode
	holders    int
	permits    uint64
	limit      uint64 // of mode Permits, as long as limitUsers is not 0
	limitUsers int    // grants and waits in that mode
}

// own is what one party has of a name; derived.
type own struct {
	grants    int
	reentrant uint64 // token of the grant that may be counted up
}

// GrantedTo is a grant as the lock commands answer it.
type GrantedTo struct {
	_     struct{} `cbor:",toarray"`
	Name  string
	Token uint64
	Count uint64
}

// TakenFrom is a grant that was taken away, or asked for.
type TakenFrom struct {
	_       struct{} `cbor:",toarray"`
	Session string
	Owner   string
	Token   uint64
}

// LockResult answers the lock commands.
type LockResult struct {
	Grants   []GrantedTo `cbor:"1,keyasint,omitempty" json:",omitempty"`
	Ticket   uint64      `cbor:"2,keyasint,omitempty" json:",omitempty"` // of the wait
	State    TicketState `cbor:"3,keyasint,omitempty" json:",omitempty"`
	Position int         `cbor:"4,keyasint,omitempty" json:",omitempty"` // in the longest of its queues, from 1
	Names    []string    `cbor:"5,keyasint,omitempty" json:",omitempty"` // refused: the names in the way
	Holder   string      `cbor:"6,keyasint,omitempty" json:",omitempty"` // refused: the session that holds the first of them, if any does
	Token    uint64      `cbor:"7,keyasint,omitempty" json:",omitempty"` // of that grant
	Limit    uint64      `cbor:"8,keyasint,omitempty" json:",omitempty"` // refused: the limit that is in force
	Taken    []TakenFrom `cbor:"9,keyasint,omitempty" json:",omitempty"`
}

// granting has room for n grants: for one, which nearly every answer has, in the same piece of memory.
func granting(n int) *LockResult {
	if n != 1 {
		return &LockResult{Grants: make([]GrantedTo, 0, n)}
	}
	r := &struct {
		LockResult
		one [1]GrantedTo
	}{}
	r.Grants = r.one[:0]
	return &r.LockResult
}

// putGrant stores a grant and what is derived from it.
func (s *State) putGrant(g Grant) {
	key := grantKey(g.Name, g.Token)
	if old, replaced := s.grants.get(key); replaced {
		s.unindexGrant(old)
	}
	s.grants.set(key, g)
	s.indexGrant(g)
}

func (s *State) removeGrant(g Grant) {
	s.unindexGrant(g)
	s.grants.delete(grantKey(g.Name, g.Token))
}

func (s *State) indexGrant(g Grant) {
	s.holdings.add(pair{group: g.Session, num: g.Token, name: g.Name})
	u := s.uses[g.Name]
	u.mode, u.holders, u.permits = g.Mode, u.holders+1, u.permits+g.Permits
	s.setUse(g.Name, s.limited(u, g.Limit, 1))
	key := partyOfLock{g.Name, g.party()}
	mine := s.owns[key]
	mine.grants++
	if g.Count > 0 {
		mine.reentrant = g.Token
	}
	s.owns[key] = mine
	s.holding[g.party()]++
	if g.RevokeAt != 0 {
		s.revoked[g.Session]++
		s.setTimer(g.revocation())
	}
}

func (s *State) unindexGrant(g Grant) {
	s.holdings.remove(pair{group: g.Session, num: g.Token, name: g.Name})
	u := s.uses[g.Name]
	u.holders, u.permits = u.holders-1, u.permits-g.Permits
	s.setUse(g.Name, s.limited(u, g.Limit, -1))
	key := partyOfLock{g.Name, g.party()}
	mine := s.owns[key]
	if mine.grants--; mine.reentrant == g.Token {
		mine.reentrant = 0
	}
	if mine.grants == 0 {
		delete(s.owns, key)
	} else {
		s.owns[key] = mine
	}
	if s.holding[g.party()]--; s.holding[g.party()] == 0 {
		delete(s.holding, g.party())
	}
	if g.RevokeAt != 0 {
		if s.revoked[g.Session]--; s.revoked[g.Session] == 0 {
			delete(s.revoked, g.Session)
		}
		s.dropTimer(g.revocation())
	}
}

// limited notes that one more, or one less, relies on the limit of a semaphore.
func (s *State) limited(u use, limit uint64, by int) use {
	if limit == 0 {
		return u
	}
	u.limit, u.limitUsers = limit, u.limitUsers+by
	if u.limitUsers == 0 {
		u.limit = 0
	}
	return u
}

func (s *State) setUse(name string, u use) {
	if u.holders == 0 {
		u.mode = 0
	}
	if u == (use{}) {
		delete(s.uses, name)
		return
	}
	s.uses[name] = u
}

// fits tells whether a want is compatible with those who hold the name now.
func (s *State) fits(w LockWant) bool {
	if s.delays.has(w.Name) {
		return false
	}
	u := s.uses[w.Name]
	switch {
	case u.holders == 0:
		return true
	case u.mode != w.Mode || w.Mode == Exclusive:
		return false
	}
	return w.Mode == Shared || u.permits+w.Permits <= w.Limit
}

// counts tells whether the want counts up a grant that the party has.
func (s *State) counts(p party, w LockWant, reentrant bool) bool {
	mine := s.owns[partyOfLock{w.Name, p}]
	if !reentrant || mine.reentrant == 0 {
		return false
	}
	g, _ := s.grants.get(grantKey(w.Name, mine.reentrant))
	return g.Mode == w.Mode && g.Permits == w.Permits
}

// countsOther tells whether a reentrant want meets a grant of its party that is counted but is not what it wants. One owner has one such
// grant of a name: asking for another mode, or for more permits, is asking against itself.
func (s *State) countsOther(p party, w LockWant, reentrant bool) bool {
	return reentrant && s.owns[partyOfLock{w.Name, p}].reentrant != 0 && !s.counts(p, w, reentrant)
}

// Grants visits the grants of a name, oldest first.
func (s *State) Grants(name string, visit func(Grant) bool) {
	s.grants.ascend(name+"\x00", func(_ string, g Grant) bool { return g.Name == name && visit(g) })
}

// Grant gives the grant of a name with a token.
func (s *State) Grant(name string, token uint64) (Grant, bool) {
	return s.grants.get(grantKey(name, token))
}

// Holders counts the grants of a name. Constant time.
func (s *State) Holders(name string) int { return s.uses[name].holders }

// InUse counts the permits of a name that are taken, and tells its limit.
func (s *State) InUse(name string) (permits, limit uint64) {
	return s.uses[name].permits, s.uses[name].limit
}

// DelayedUntil is the cluster time until which nobody gets the lock, 0 when there is no delay.
func (s *State) DelayedUntil(name string) uint64 {
	d, _ := s.delays.get(name)
	return d
}

// LockNames visits, in their order, the names that somebody holds or waits for or that are delayed, from the given one.
func (s *State) LockNames(from string, visit func(name string) bool) {
	for at := from; ; {
		name, ok := s.nextLockName(at)
		if !ok || !visit(name) {
			return
		}
		at = name + "\x00\xff" // beyond all grants of the name, before every longer name that is valid
	}
}

func (s *State) nextLockName(from string) (string, bool) {
	var names []string
	s.grants.ascend(from, func(_ string, g Grant) bool { names = append(names, g.Name); return false })
	s.queues.tree.Ascend(pair{group: from}, func(p pair) bool { names = append(names, p.group); return false })
	s.delays.ascend(from, func(name string, _ uint64) bool { names = append(names, name); return false })
	if len(names) == 0 {
		return "", false
	}
	least := names[0]
	for _, name := range names[1:] {
		least = min(least, name)
	}
	return least, true
}

// Holdings visits the grants of a session in the order of their tokens.
func (s *State) Holdings(session string, visit func(Grant) bool) {
	s.holdings.each(session, func(p pair) bool {
		g, _ := s.grants.get(grantKey(p.name, p.num))
		return visit(g)
	})
}

// HoldingsOf counts the grants of a session. Constant time.
func (s *State) HoldingsOf(session string) int { return s.holdings.count(session) }

// Revoked visits the grants of a session that it was asked to give back. Constant time when there are none.
func (s *State) Revoked(session string, visit func(Grant) bool) {
	if s.revoked[session] == 0 {
		return
	}
	s.Holdings(session, func(g Grant) bool { return g.RevokeAt == 0 || visit(g) })
}
