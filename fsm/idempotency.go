package fsm

// Key identifies a request whose result must be the same however often it is sent.
//
// A key has a scope (who asks) and an id. Keys of the form client/seq also carry the lowest sequence number whose answer the client has
// not seen: everything below it is forgotten at once. Free-form keys have no client and live KeyWindowMs.
type Key struct {
	Scope       string
	ID          string // of a free-form key: that of another is its client and number
	Fingerprint uint64 // of the request; another request under the same key is refused
	Client      string // empty for a free-form key
	Seq         uint64
	Acked       uint64 // results of this client below this sequence number are acknowledged
}

// row is the key of its result; the results of a client stand together, in the order of their numbers. The client is empty for a
// free-form key.
func (k Key) row() (row, client string) {
	if k.Client == "" {
		return k.Scope + "\x00\x00" + k.ID, ""
	}
	b := make([]byte, 0, len(k.Scope)+1+len(k.Client)+1+seqDigits)
	b = append(append(b, k.Scope...), 0)
	b = append(append(b, k.Client...), 0)
	row = string(appendHex(b, k.Seq, seqDigits))
	return row, row[:len(b)-1]
}

const seqDigits = 16

type storedResult struct {
	_           struct{} `cbor:",toarray"`
	Fingerprint uint64
	Order       uint64 // position in ages
	Until       uint64 // cluster time, milliseconds
	Client      string // of Key.row()
	Seq         uint64
	Result      Result
}

// replay answers a key that is already stored.
func (s *State) replay(k *Key, row string) (Result, bool) {
	old, ok := s.stored.get(row)
	if !ok {
		return Result{}, false
	}
	if old.Fingerprint != k.Fingerprint {
		r := refuse(CodeKeyReused, "this idempotency key was used for another request")
		r.Index = s.counters.Revision
		return r, true
	}
	return old.Result, true
}

// acknowledged is up to where a client has seen its results. A copy of a request below it, late on its way, must not run again.
type acknowledged struct {
	_     struct{} `cbor:",toarray"`
	Below uint64
	Until uint64 // cluster time; the same window as that of results
}

// Acknowledgements are taken in steps: a request that acknowledges a little more than the last one need not change the client's row.
const (
	ackStep   = 16
	ackLazyMs = 1_000 // nor one that comes so soon after it
)

// acknowledge forgets what the client has seen, and refuses what it has seen already, or one result too many.
func (s *State) acknowledge(k *Key, client string) Result {
	if client == "" {
		return Result{}
	}
	seen, known := s.acked.get(client)
	if k.Seq < seen.Below {
		return refuse(CodeKeyAcknowledged, "the client has said that it saw the result of this request")
	}
	if !known && s.acked.len() >= KeysMax {
		return refuse(CodeKeysOutstanding, "as many clients use idempotency keys as may")
	}
	below := seen.Below
	if k.Acked >= below+ackStep || k.Acked > below && s.outstanding[client] >= KeyOutstandingMax {
		below = k.Acked
		s.forgetBelow(client, below)
	}
	if s.outstanding[client] >= KeyOutstandingMax {
		return refuse(CodeKeysOutstanding, "too many results of this client are unacknowledged")
	}
	if !known {
		s.setTimer(timer{due: s.counters.Now + KeyWindowMs, what: timerAcked, key: client})
	}
	if until := s.counters.Now + KeyWindowMs; below > seen.Below || until >= seen.Until+ackLazyMs {
		s.acked.set(client, acknowledged{Below: below, Until: until})
	}
	return Result{}
}

func (s *State) forgetBelow(client string, seq uint64) {
	var seen []string
	s.stored.ascend(client+"\x00", func(key string, v storedResult) bool {
		if v.Client != client || v.Seq >= seq {
			return false
		}
		seen = append(seen, key)
		return true
	})
	for _, key := range seen {
		s.forget(key)
	}
}

// ackedDue forgets a client that has been silent for a window. One that was not gets another timer: setting one at each request would
// leave thousands behind.
func (s *State) ackedDue(client string, due uint64) {
	seen, ok := s.acked.get(client)
	switch {
	case !ok:
	case seen.Until > due:
		s.setTimer(timer{due: seen.Until, what: timerAcked, key: client})
	default:
		s.acked.delete(client)
	}
}

// store keeps the result. The oldest results go when there are KeysMax.
func (s *State) store(k *Key, row, client string, r Result) {
	for s.stored.len() >= KeysMax {
		oldest, _ := s.ages.oldest()
		s.forget(oldest)
	}
	s.counters.Stored++
	v := storedResult{Fingerprint: k.Fingerprint, Order: s.counters.Stored, Until: s.counters.Now + KeyWindowMs, Client: client, Result: r}
	if client != "" {
		v.Seq = k.Seq
	}
	s.stored.set(row, v)
	s.indexStored(row, v)
	if !s.timesOldest {
		s.timeOldest()
	}
}

func (s *State) indexStored(key string, v storedResult) {
	if v.Client != "" {
		s.outstanding[v.Client]++
	}
	s.ages.add(v.Order, key)
}

func (s *State) forget(key string) {
	v, ok := s.stored.delete(key)
	if !ok {
		return
	}
	s.ages.remove(v.Order)
	if v.Client == "" {
		return
	}
	if s.outstanding[v.Client]--; s.outstanding[v.Client] == 0 {
		delete(s.outstanding, v.Client)
	}
}

// Results end in the order of storing, so one timer is enough: that of a result which is, or was, the oldest. When it finds its result gone
// it looks for the oldest that is there, whose window cannot have ended before.
func storedTimer(v storedResult) timer { return timer{due: v.Until, what: timerStored, id: v.Order} }

func (s *State) storedDue(order, due uint64) {
	if key, ok := s.ages.get(order); ok {
		if v, _ := s.stored.get(key); v.Until == due {
			s.forget(key)
		}
	}
	s.timeOldest()
}

func (s *State) timeOldest() {
	key, ok := s.ages.oldest()
	if ok {
		v, _ := s.stored.get(key)
		s.setTimer(storedTimer(v))
	}
	s.timesOldest = ok
}

// onlyStored tells whether changes concern nothing but stored results: a refusal may be stored, and nothing else.
func onlyStored(changes []Change) bool {
	for _, c := range changes {
		if c.Table != "stored" && c.Table != "acked" {
			return false
		}
	}
	return true
}

// KeyWindow describes the stored results as operators see them.
type KeyWindow struct {
	Count    int
	OldestMs uint64 // age of the oldest result in cluster time
}

// KeyWindow tells how many idempotency results are kept and how far back they reach.
func (s *State) KeyWindow() KeyWindow {
	w := KeyWindow{Count: s.stored.len()}
	if key, ok := s.ages.oldest(); ok {
		v, _ := s.stored.get(key)
		w.OldestMs = s.counters.Now + KeyWindowMs - v.Until
	}
	return w
}
