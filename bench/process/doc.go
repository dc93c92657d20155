// Package process starts the programs that are measured and makes sure that they end.
//
// # Invariants
//
//   - A process is ended by the pid that its start returned, never by a name.
//   - When Kill has returned the process is gone.
//
// # Ownership
//
// A Process owns one goroutine, which waits for the child and ends with it. Output goes to a file, so nothing has to copy it.
//
// # Failure
//
// A child dies with its parent, also when that is killed: on Linux the kernel sees to it. Children have process groups of their own, so an
// interrupt of the terminal reaches the parent alone, which ends them in order.
//
// # Not here
//
// What the programs are: package system.
package process
