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
