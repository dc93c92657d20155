package fsm

import "fmt"

// Key identifies a request whose result must be the same however often it is sent.
//
// A key has a scope (who asks) and an id. Keys of the form client/seq also carry the lowest sequence number whose answer the client has
// not seen: everything below it is forgotten at once. Free-form keys have no client and live KeyWindowMs.
type Key struct {
	_           struct{} `cbor:",toarray"`
	Scope       string
	ID          string
	Fingerprint uint64 // of the request; another request under the same key is refused
	Client      string // empty for a free-form key
	Seq         uint64
	Acked       uint64 // results of this client below this sequence number are acknowledged
}

func (k Key) row() string {
	if k.Client != "" {
		return fmt.Sprintf("%s\x00%s\x00%016x", k.Scope, k.Client, k.Seq)
	}
	return k.Scope + "\x00\x00" + k.ID
}

func (k Key) client() string { return k.Scope + "\x00" + k.Client }

type storedResult struct {
	_           struct{} `cbor:",toarray"`
	Fingerprint uint64
	Order       uint64 // position in storedAge
	Until       uint64 // cluster time, milliseconds
	Client      string // Key.client(), empty for a free-form key
	Seq         uint64
	Result      Result
}

// replay answers a key that is already stored.
func (s *State) replay(k Key) (Result, bool) {
	old, ok := s.stored.get(k.row())
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

// acknowledge forgets what the client has seen, and refuses what it has seen already, or one result too many.
func (s *State) acknowledge(k Key) Result {
	if k.Client == "" {
		return Result{}
	}
	seen, known := s.acked.get(k.client())
	if k.Seq < seen.Below {
		return refuse(CodeKeyAcknowledged, "the client has said that it saw the result of this request")
	}
	if !known && s.acked.len() >= KeysMax {
		return refuse(CodeKeysOutstanding, "as many clients use idempotency keys as may")
	}
	for _, p := range s.clients.all(k.client()) {
		if p.num >= k.Acked {
			break
		}
		s.forget(p.name)
	}
	if s.clients.count(k.client()) >= KeyOutstandingMax {
		return refuse(CodeKeysOutstanding, "too many results of this client are unacknowledged")
	}
	if !known {
		s.setTimer(timer{due: s.counters.Now + KeyWindowMs, what: timerAcked, key: k.client()})
	}
	s.acked.set(k.client(), acknowledged{Below: max(seen.Below, k.Acked), Until: s.counters.Now + KeyWindowMs})
	return Result{}
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
func (s *State) store(k Key, r Result) {
	for s.stored.len() >= KeysMax {
		oldest := ""
		s.storedAge.ascend(0, func(_ uint64, key string) bool { oldest = key; return false })
		s.forget(oldest)
	}
	s.counters.Stored++
	v := storedResult{Fingerprint: k.Fingerprint, Order: s.counters.Stored, Until: s.counters.Now + KeyWindowMs, Result: r}
	if k.Client != "" {
		v.Client, v.Seq = k.client(), k.Seq
	}
	s.stored.set(k.row(), v)
	s.storedAge.set(v.Order, k.row())
	s.indexStored(k.row(), v)
}

func (s *State) indexStored(key string, v storedResult) {
	if v.Client != "" {
		s.clients.add(pair{group: v.Client, num: v.Seq, name: key})
	}
	s.setTimer(timer{due: v.Until, what: timerStored, id: v.Order})
}

func (s *State) forget(key string) {
	v, ok := s.stored.get(key)
	if !ok {
		return
	}
	s.stored.delete(key)
	s.storedAge.delete(v.Order)
	s.dropTimer(timer{due: v.Until, what: timerStored, id: v.Order})
	if v.Client != "" {
		s.clients.remove(pair{group: v.Client, num: v.Seq, name: key})
	}
}

func (s *State) storedDue(order uint64) {
	if key, ok := s.storedAge.get(order); ok {
		s.forget(key)
	}
}

// onlyStored tells whether changes concern nothing but stored results: a refusal may be stored, and nothing else.
func onlyStored(changes []Change) bool {
	for _, c := range changes {
		if c.Table != "stored" && c.Table != "stored_age" && c.Table != "acked" {
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
	s.storedAge.ascend(0, func(_ uint64, key string) bool {
		v, _ := s.stored.get(key)
		w.OldestMs = s.counters.Now + KeyWindowMs - v.Until
		return false
	})
	return w
}
