// Command bench measures locks: Quiesce beside etcd and beside a Redis lock, in one run on one machine.
//
// # Purpose
//
// Answer, with figures that anybody can repeat, how many locks a second Quiesce serves and how long they take, compared with what one would
// use instead. README.md beside this file has the figures, what limits them, and every choice that could favour a side.
//
// # Invariants
//
//   - A cycle that failed ends the run: a figure counts locks that were held, never errors. (load.Run)
//   - Whoever is granted a contended lock checks that nobody else holds it. (loads.HandOff, loads.Crowd)
//   - Both sides of a ratio were measured next to each other in the same round. (run.rounds)
//
// # Ownership
//
// Processes are children of this one, each in a process group of its own, ended by their pid in the reverse order of their start; the
// kernel ends them if this process is killed. All data is in one temporary folder, removed at the end.
//
// # Limits
//
// Every case has a length, every wait a deadline; a whole run takes about five minutes.
//
// # Not here
//
// Faults, other machines, networks with latency: what is measured is the cost in CPU and syncs of one lock on loopback. This is a module
// of its own, so that what it compares with never becomes a dependency of the product.
package main
