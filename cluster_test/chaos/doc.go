// Package chaos drives locks with many clients while nodes are killed, stopped and cut off from each other, and has every answer judged.
//
// # Purpose
//
// [Run] starts three nodes with links between them. Lanes of clients play rounds: a handful of sessions that contend for the locks of the
// round, whose names nobody else uses, over plain HTTP, through any node, repeating what got no answer under its idempotency key. Beside
// them faults come one after the other, in an order that the seed gives. Each round is a history of its own, which package history judges
// as soon as it is over.
//
// # Invariants
//
//	C1  A run says nothing good unless all of this is true: each kind of fault came and did what it is for, each kind of round was played,
//	    enough was answered in a second, waits were granted, sessions expired, and outcomes stayed unknown.
//	C2  In the same run histories with one lie in them are judged, and each is refused.
//	C3  A client that does not learn what became of its request does nothing more, and its session falls silent.
//
// # Ownership
//
// Run joins its lanes, and each round its clients and its keeper. Faults are done by the goroutine of Run, to which the nodes belong.
//
// # Time
//
// The seed gives the faults and what clients will try; who comes first is the machine's choice. Wrong histories are therefore written down
// whole.
//
// # Failure
//
// Everything wrong is told to the test and counted. Histories that were refused lie in [Options].Dir, as JSON and as a picture.
//
// # Not here
//
// What is right (package history), how nodes and links are run (packages harness and links), holders outside (the fencing tests).
package chaos
