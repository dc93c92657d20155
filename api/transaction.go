package api

import "time"

// Transactions are the long transactions that the leader sees in the sources.
type Transactions struct {
	Transactions []Transaction       `json:"transactions" doc:"Oldest first, at most 200"`
	Sources      []TransactionSource `json:"sources" doc:"How the watch of each source stands"`
}

// Transaction is a transaction that has been open for longer than the threshold of its source.
type Transaction struct {
	ID           string    `json:"id" doc:"source.thread.transaction, to be given to kill"`
	Source       string    `json:"source"`
	Thread       uint64    `json:"thread" doc:"Connection id"`
	Trx          string    `json:"trx" doc:"Transaction id"`
	State        string    `json:"state" doc:"As the server says: RUNNING, LOCK WAIT, ROLLING BACK or COMMITTING"`
	User         string    `json:"user,omitempty"`
	Host         string    `json:"host,omitempty"`
	Command      string    `json:"command,omitempty" doc:"Sleep: idle in the transaction"`
	StartedAt    time.Time `json:"started_at"`
	AgeMs        uint64    `json:"age_ms"`
	RowsModified uint64    `json:"rows_modified"`
	RowsLocked   uint64    `json:"rows_locked"`
	Statement    string    `json:"statement,omitempty" doc:"The one that runs now, without its literals"`
	Instance     string    `json:"instance,omitempty" doc:"Id of the instance that reported the connection"`
	InstanceName string    `json:"instance_name,omitempty"`
	Killed       bool      `json:"killed,omitempty" doc:"The leader ended its connection and watches the rollback"`
	Verdict      string    `json:"verdict" doc:"What the kill policy says: why it is left alone, or is to end"`
}

// TransactionSource is the watch of one source.
type TransactionSource struct {
	Source      string   `json:"source"`
	ThresholdMs uint64   `json:"threshold_ms"`
	Policy      string   `json:"policy" enum:"never,owned,all"`
	Reachable   bool     `json:"reachable"`
	Missing     []string `json:"missing,omitempty" doc:"Privileges that the account lacks"`
	Detail      string   `json:"detail,omitempty"`
	Killed      uint64   `json:"killed" doc:"Connections that this leader has ended"`
	SeenAgeMs   uint64   `json:"seen_age_ms,omitempty" doc:"Since the last reading"`
}

// KillTransaction says why.
type KillTransaction struct {
	Reason string `json:"reason" minLength:"1" maxLength:"256"`
}

// KillVerdict answers it.
type KillVerdict struct {
	Killed bool   `json:"killed"`
	Detail string `json:"detail" doc:"Such as: it is over, or is another transaction now"`
}
