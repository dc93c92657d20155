// Package writer is the application of the chaos run: a process that changes rows in all the ways in which events can be told, and writes down in its ledger what it did.
//
// # Purpose
//
// [Main] runs as an instance of a service until it is ended. Lanes of each tier change rows of that tier's table: tier 1 calls the coordinator after the commit, tier 2
// prepares events and fences its transaction, tier 3 writes the outbox table in it, tier 4 leaves it to triggers. Some transactions are rolled back on purpose, some
// endings are told to nobody.
//
// # Invariants
//
//	W1  The intent of a transaction is in the ledger before it begins, and the row that it leaves carries its serial.
//	W2  Each transaction writes the keys that it touches into the table journal, last: of two that touch one key the later commit has the higher number there,
//	    because it had to wait for the lock of the row.
//	W3  What will be rolled back on purpose has a serial that begins with [DoomedPrefix].
//
// # Ownership
//
// Lanes are background work of the SDK's instance, which ends and joins them.
//
// # Not here
//
// Who ends the process and when, and what is right (package syncchaos).
package writer
