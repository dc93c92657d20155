package fsm

// Service is a group of instances under one disruption budget.
type Service struct {
	Name           string `cbor:"1,keyasint"`
	Version        uint64 `cbor:"2,keyasint"` // +1 per change; the precondition of PutService
	MaxUnavailable uint32 `cbor:"3,keyasint"` // instances that drain grants may make unavailable at a time, at least 1
	Index          uint64 `cbor:"4,keyasint"`
}

// MaxUnavailableDefault is the budget of a service that nobody declared.
const MaxUnavailableDefault = 1

// ServiceResult answers the service commands.
type ServiceResult struct {
	Name    string `cbor:"1,keyasint,omitempty" json:",omitempty"`
	Version uint64 `cbor:"2,keyasint,omitempty" json:",omitempty"`
}

// PutService declares a service or changes its budget. IfVersion 0 asks nothing; any other value must be the present version.
type PutService struct {
	Name           string `cbor:"1,keyasint"`
	MaxUnavailable uint32 `cbor:"2,keyasint"`
	IfVersion      uint64 `cbor:"3,keyasint,omitempty"`
}

func (PutService) kind() Kind { return kindPutService }

func (c PutService) apply(s *State) Result {
	if c.Name == "" || len(c.Name) > NameBytesMax || c.MaxUnavailable < 1 {
		return refuse(CodeInvalid, "service name or budget out of bounds")
	}
	old, known := s.services.get(c.Name)
	if c.IfVersion != 0 && c.IfVersion != old.Version {
		return refuse(CodeVersionMismatch, "the service has another version")
	}
	if !known && s.services.len() >= ServicesMax {
		return refuse(CodeServicesFull, "the cluster knows as many services as it may")
	}
	v := Service{Name: c.Name, Version: old.Version + 1, MaxUnavailable: c.MaxUnavailable, Index: s.nextRevision()}
	s.services.set(c.Name, v)
	s.grantDrains(c.Name)
	return Result{Service: &ServiceResult{Name: v.Name, Version: v.Version}}
}

// DeleteService forgets a service without live instances.
type DeleteService struct {
	Name      string `cbor:"1,keyasint"`
	IfVersion uint64 `cbor:"2,keyasint,omitempty"`
}

func (DeleteService) kind() Kind { return kindDeleteService }

func (c DeleteService) apply(s *State) Result {
	old, known := s.services.get(c.Name)
	switch {
	case !known:
		return refuse(CodeServiceNotFound, "no such service")
	case c.IfVersion != 0 && c.IfVersion != old.Version:
		return refuse(CodeVersionMismatch, "the service has another version")
	}
	if _, live := s.members.first(c.Name); live {
		return refuse(CodeServiceInUse, "the service has live instances")
	}
	s.services.delete(c.Name)
	return Result{Service: &ServiceResult{Name: c.Name, Version: old.Version}}
}

// Service gives a service by name.
func (s *State) Service(name string) (Service, bool) { return s.services.get(name) }

// Services visits the services in the order of their names, from the given one.
func (s *State) Services(from string, visit func(Service) bool) {
	s.services.ascend(from, func(_ string, v Service) bool { return visit(v) })
}
