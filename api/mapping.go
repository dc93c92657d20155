package api

import "encoding/json"

// MappingVersion answers the PUT of a mapping, whose body is the specification itself.
type MappingVersion struct {
	Name     string `json:"name"`
	Revision uint64 `json:"revision"`
}

// Mapping is a declared rule from a row to a key.
type Mapping struct {
	Name     string          `json:"name"`
	Revision uint64          `json:"revision"`
	Spec     json.RawMessage `json:"spec"`
	Pending  int             `json:"pending" doc:"Events that are not delivered yet"`
	Dead     int             `json:"dead" doc:"Dead letters"`
	Index    uint64          `json:"index" doc:"Revision of its last change"`
}

// Mappings is a page of mappings.
type Mappings struct {
	Page
	Mappings []Mapping `json:"mappings"`
}

// Finding is one thing that a check found.
type Finding struct {
	Level  string `json:"level" enum:"error,warning,note" doc:"error: the mapping would be refused"`
	Field  string `json:"field,omitempty" doc:"Path in the specification"`
	Reason string `json:"reason"`
}

// MappingCheck answers a check: of the specification in the body, or without one of the mapping as it is.
type MappingCheck struct {
	OK       bool            `json:"ok" doc:"No error was found"`
	Findings []Finding       `json:"findings"`
	Source   json.RawMessage `json:"source,omitempty" doc:"The server that answered"`
	Explain  string          `json:"explain,omitempty" doc:"How the server reads a batch of keys"`
	Sample   *MappingSample  `json:"sample,omitempty" doc:"One row, and what it becomes; absent for an empty table"`
}

// MappingSample is one row with its keys and value.
type MappingSample struct {
	PK    []string `json:"pk"`
	Keys  []string `json:"keys"`
	Value string   `json:"value,omitempty" doc:"As it would be written: a JSON object of the fields for a hash; cut at 4 KiB"`
	TTLMs int64    `json:"ttl_ms,omitempty"`
}
