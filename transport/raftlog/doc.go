// Package raftlog lets the raft libraries, which speak hclog, write to the node's slog logger.
package raftlog
