package api

// PutService declares a service or changes its budget.
type PutService struct {
	MaxUnavailable uint32 `json:"max_unavailable" minimum:"1" maximum:"50000" doc:"Instances that may be stopping at a time"`
}

// ServiceVersion answers PutService.
type ServiceVersion struct {
	Name    string `json:"name"`
	Version uint64 `json:"version"`
}

// Service is a service with its live counts.
type Service struct {
	Name           string         `json:"name"`
	Version        uint64         `json:"version"`
	MaxUnavailable uint32         `json:"max_unavailable"`
	Unavailable    int            `json:"unavailable" doc:"Instances that the budget counts now"`
	Live           map[string]int `json:"live" doc:"Live instances by state"`
	Index          uint64         `json:"index" doc:"Revision of its last change"`
}

// Services is a page of services.
type Services struct {
	Page
	Services []Service `json:"services"`
}
