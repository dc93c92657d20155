package fsm

import (
	"fmt"
	"slices"
)

// Adoption: the leader finishes what an instance could not.

// Steps of an adoption.
const (
	AdoptLocks        = "locks" // in the entry that ended the instance
	AdoptKeys         = "keys"
	AdoptTransactions = "transactions"
	AdoptPrepared     = "prepared"
	AdoptDone         = "done"
)

// AdoptionStep is one thing that was done.
type AdoptionStep struct {
	_      struct{} `cbor:",toarray"`
	Step   string
	Detail string
	At     uint64 // cluster time
}

func locksFreed(v Instance) string { return fmt.Sprintf("%d locks freed", v.LocksFreed) }

// AdoptInstance records a step of an adoption. The step keys makes events of the keys that the instance left; done ends the adoption.
type AdoptInstance struct {
	ID          string `cbor:"1,keyasint"`
	Incarnation uint64 `cbor:"2,keyasint"`
	Step        string `cbor:"3,keyasint"`
	Detail      string `cbor:"4,keyasint,omitempty"`
}

func (AdoptInstance) kind() Kind { return kindAdoptInstance }

func (c AdoptInstance) apply(s *State) Result {
	v, ok := s.instances.get(c.ID)
	switch {
	case len(c.Detail) > ErrorBytesMax || !slices.Contains([]string{AdoptKeys, AdoptTransactions, AdoptPrepared, AdoptDone}, c.Step):
		return refuse(CodeInvalid, "unknown step, or its detail is too long")
	case !ok:
		return refuseInstance(CodeInstanceNotFound)
	case v.Incarnation != c.Incarnation || !v.Unadopted:
		return refuse(CodeInstanceState, "there is nothing to adopt")
	}
	queued := 0
	if c.Step == AdoptKeys {
		known := slices.DeleteFunc(slices.Clone(v.Keys), func(k RowRef) bool { return !s.mappings.has(k.Mapping) })
		if len(known) > 0 {
			if r := (EnqueueEvents{Events: known}).apply(s); r.Refused() {
				return r
			}
		}
		queued = len(known)
		if c.Detail == "" {
			c.Detail = fmt.Sprintf("%d of %d keys queued for delivery", queued, len(v.Keys))
		}
		v.Keys = nil
	}
	if len(v.Adoption) < AdoptionMax || c.Step == AdoptDone {
		v.Adoption = append(slices.Clip(v.Adoption), AdoptionStep{Step: c.Step, Detail: c.Detail, At: s.counters.Now})
	}
	v.Unadopted = c.Step != AdoptDone
	s.putInstance(v)
	return Result{Instance: &InstanceResult{ID: v.ID, Incarnation: v.Incarnation, State: v.State, Keys: queued}}
}

// Unadopted visits the ended instances that somebody has to look after, oldest incarnation first.
func (s *State) Unadopted(visit func(Instance) bool) {
	s.orphans.each("", func(p pair) bool {
		v, _ := s.instances.get(p.name)
		return visit(v)
	})
}
