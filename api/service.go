package api

// Times of a service that leaves them out.
const (
	SettleDefaultMs      = 10_000
	RestartHoldDefaultMs = 120_000
	LostHoldDefaultMs    = 120_000
)

// PutService declares a service or changes it. At most one of the four budgets is given; none means max_unavailable 1. What is a switch
// rather than a rule, read_only and freeze, stays as it is when absent, so that an application that declares its service at every start does
// not undo what an operator has set.
type PutService struct {
	Replicas              uint32          `json:"replicas,omitempty" maximum:"50000" doc:"Base of the percentages; when 0, those that serve or are expected back"`
	MaxUnavailable        uint32          `json:"max_unavailable,omitempty" minimum:"1" maximum:"50000" doc:"So many may be out of service at a time"`
	MaxUnavailablePercent uint32          `json:"max_unavailable_percent,omitempty" minimum:"1" maximum:"100" doc:"Rounded down, but at least 1"`
	MinAvailable          uint32          `json:"min_available,omitempty" minimum:"1" maximum:"50000" doc:"So many must be in service and settled"`
	MinAvailablePercent   uint32          `json:"min_available_percent,omitempty" minimum:"1" maximum:"100" doc:"Rounded up"`
	SettleMs              *uint64         `json:"settle_ms,omitempty" maximum:"3600000" doc:"Time an instance must have been ready before it counts as available; 10000 when absent"`
	RestartHoldMs         *uint64         `json:"restart_hold_ms,omitempty" maximum:"3600000" doc:"How long the place of one that left to restart is kept for its successor; 120000 when absent"`
	LostHoldMs            *uint64         `json:"lost_hold_ms,omitempty" maximum:"3600000" doc:"The same for one that was lost; 120000 when absent"`
	DependsOn             []string        `json:"depends_on,omitempty" maxItems:"16" doc:"Services that this one needs: they stop after it and start before it"`
	ReadOnly              *bool           `json:"read_only,omitempty" doc:"Instances refuse writes and serve reads"`
	Freeze                *bool           `json:"freeze,omitempty" doc:"No drain is granted, but for overdrafts"`
	Cleanup               *ServiceCleanup `json:"cleanup,omitempty" doc:"Cache keys to remove when the service is gone"`
}

// ServiceCleanup says which keys go with the last instance.
type ServiceCleanup struct {
	Target   string   `json:"target" pattern:"^[a-z0-9][a-z0-9._-]{0,62}$"`
	Patterns []string `json:"patterns" minItems:"1" maxItems:"16" doc:"As in Redis SCAN MATCH, up to 256 bytes, with at least 2 literal bytes before the first of *?[\\"`
	DelayMs  uint64   `json:"delay_ms,omitempty" maximum:"86400000" doc:"Time after the last instance has left; 0 means 0"`
}

// ServiceVersion answers PutService.
type ServiceVersion struct {
	Name    string `json:"name"`
	Version uint64 `json:"version"`
}

// Service is a service with its live counts.
type Service struct {
	Name                  string          `json:"name"`
	Version               uint64          `json:"version"`
	Replicas              uint32          `json:"replicas,omitempty"`
	MaxUnavailable        uint32          `json:"max_unavailable,omitempty"`
	MaxUnavailablePercent uint32          `json:"max_unavailable_percent,omitempty"`
	MinAvailable          uint32          `json:"min_available,omitempty"`
	MinAvailablePercent   uint32          `json:"min_available_percent,omitempty"`
	SettleMs              uint64          `json:"settle_ms"`
	RestartHoldMs         uint64          `json:"restart_hold_ms"`
	LostHoldMs            uint64          `json:"lost_hold_ms"`
	DependsOn             []string        `json:"depends_on,omitempty"`
	ReadOnly              bool            `json:"read_only"`
	Freeze                bool            `json:"freeze"`
	Cleanup               *ServiceCleanup `json:"cleanup,omitempty"`

	Expected    int            `json:"expected" doc:"replicas, or those that serve or are expected back"`
	Available   int            `json:"available" doc:"In service and settled"`
	Unavailable int            `json:"unavailable" doc:"Places of the budget that are taken"`
	Room        int            `json:"room" doc:"Drains that could be granted now"`
	Queued      int            `json:"queued"`
	Live        map[string]int `json:"live" doc:"Live instances by state"`
	Drains      DrainRecord    `json:"drains"`
	Index       uint64         `json:"index" doc:"Revision of its last change"`
}

// DrainRecord is what is remembered of a service's drains.
type DrainRecord struct {
	Grants     uint64 `json:"grants"`
	Overdrafts uint64 `json:"overdrafts"`
	Forced     uint64 `json:"forced"`
	Lost       uint64 `json:"lost"`
	Undone     uint64 `json:"undone"`
	WorstMs    uint64 `json:"worst_ms,omitempty" doc:"Longest of the last 32 drains, from the grant to the exit"`
	MedianMs   uint64 `json:"median_ms,omitempty"`
	RestartMs  uint64 `json:"restart_ms,omitempty" doc:"Longest of the last 32 restarts, from the exit to the successor's being settled"`
}

// Services is a page of services.
type Services struct {
	Page
	Services []Service `json:"services"`
}
