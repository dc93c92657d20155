package api

// Cluster is the cluster as the answering node sees it.
type Cluster struct {
	ID               string `json:"id"`
	Node             string `json:"node" doc:"The node that answers"`
	Leader           string `json:"leader,omitempty" doc:"Node id"`
	LeaderURL        string `json:"leader_url,omitempty"`
	Term             uint64 `json:"term"`
	Index            uint64 `json:"index" doc:"Revision of the state"`
	AppliedIndex     uint64 `json:"applied_index" doc:"Of the Raft log"`
	Digest           string `json:"digest" doc:"Of the state at the applied index"`
	FeatureLevel     int    `json:"feature_level"`
	FailureTolerance int    `json:"failure_tolerance" doc:"Voters that may fail without an outage"`
	Nodes            []Node `json:"nodes"`
}

// Node is one member.
type Node struct {
	ID           string `json:"id"`
	Status       string `json:"status" enum:"alive,leaving,left,failed"`
	Suffrage     string `json:"suffrage" enum:"voter,nonvoter," doc:"Empty: not a member"`
	PeerAddr     string `json:"peer_addr"`
	HTTPAddr     string `json:"http_addr"`
	AppliedIndex uint64 `json:"applied_index,omitempty"`
	Digest       string `json:"digest,omitempty"`
	Version      string `json:"version,omitempty"`
}

// Sources are the MySQL servers that nodes have by name.
type Sources struct {
	Index   uint64  `json:"index"`
	Sources []Place `json:"sources"`
}

// Targets are the Redis servers that nodes have by name.
type Targets struct {
	Index   uint64  `json:"index"`
	Targets []Place `json:"targets"`
}

// Place is a source or a target.
type Place struct {
	Name      string   `json:"name"`
	Identity  string   `json:"identity,omitempty" doc:"Hash of where it leads"`
	Nodes     []string `json:"nodes" doc:"Nodes that have it"`
	Differs   bool     `json:"differs,omitempty" doc:"Its nodes do not mean the same server"`
	Reachable bool     `json:"reachable" doc:"From the node that answers"`
	Role      string   `json:"role,omitempty"`
	Flavour   string   `json:"flavour,omitempty"`
	Breaker   string   `json:"breaker,omitempty"`
	Detail    string   `json:"detail,omitempty"`
}

// Health answers /healthz and /readyz when all is well; else the answer is a Problem.
type Health struct {
	Status string `json:"status" enum:"ok"`
}
