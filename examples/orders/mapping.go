package main

const mappingName = "orders"

// mapping is the rule from a row of orders to its key: the body of PUT /v1/mappings/orders.
type mapping struct {
	Source     string          `json:"source"`
	Table      string          `json:"table"`
	PrimaryKey []string        `json:"primary_key"`
	Columns    []mappingColumn `json:"columns"`
	Target     string          `json:"target"`
	Key        string          `json:"key"`
	Mode       string          `json:"mode"`
	Encoding   string          `json:"encoding"`
}

type mappingColumn struct {
	Name   string `json:"name"`
	String bool   `json:"string,omitempty"` // a decimal as a JSON number would lose its scale in most readers
}

// mapping lists the columns in the order of the fields of order, so that a hit and a miss look the same.
func (c config) mapping() mapping {
	return mapping{
		Source: c.source, Table: "orders", PrimaryKey: []string{"id"}, Target: c.target,
		Key: c.keyPrefix + "{id}", Mode: "write_through", Encoding: "json",
		Columns: []mappingColumn{{Name: "id"}, {Name: "customer"}, {Name: "status"}, {Name: "amount", String: true}, {Name: "note"},
			{Name: "version"}, {Name: "updated_at"}},
	}
}
