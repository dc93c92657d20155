// Package fence lets MySQL refuse the writes of a lock's former holder. It needs database/sql and nothing else, and works with any lock
// service whose tokens rise.
//
// # Purpose
//
// A process can be stopped for longer than any lease: by a signal, a migrating machine, a slow disk. When it goes on, it finishes the
// statement that it was about to send, and somebody else holds its lock by now. Only the database is in a position to refuse that
// statement, by the token that comes with each lock (client.Lock.Token): it stores the highest it has seen and takes no lower one.
//
// The token is stored in the protected row, [Table], or in a table of names, [Names], for what is not one row: many rows, rows that do not
// exist yet, a file, a tenant.
//
//	lock, err := app.Lock(ctx, "order/42")
//	…
//	err = orders.Row(42).Do(ctx, db, lock.Token(), func(tx *sql.Tx) error {
//		… // read and write what the lock protects
//	})
//	if errors.Is(err, fence.ErrFenced) {
//		… // somebody else holds the lock by now; nothing was changed
//	}
//
// # Invariants
//
//	F1 The stored token never falls. (TestFence_NoLowerTokenWritesAfterAHigherOne)
//	F2 After Advance, until its transaction ends, no other token writes: the row is locked. What that transaction reads from then on is
//	   what the earlier holders committed. (TestAdvance_ReadsWhatAnOlderHolderCommittedLate)
//	F3 The same token may write again and again. (TestAdvance_SameTokenMayWriteAgain)
//	F4 After any error of Do but ErrCommitUnknown nothing was changed. (TestDo_ServerThatDiesChangesNothing)
//	F5 No answer depends on whether the server counts the rows it matched or those it changed (clientFoundRows).
//
// # Read after the fence, not before
//
// A token that was never shown to the database protects nothing yet: until the new holder's first Advance, the former one may still write.
// So a value that was read before Advance may be old when it is written back. Let Advance be the first statement of the transaction (Do
// sees to it) and read after it. Where reading and writing are far apart, call Do with a nil function when the lock is granted; from then
// on nobody older can write, and Update needs one round trip.
//
// This holds in every isolation level. Under REPEATABLE READ it is the reason why Advance comes first: a SELECT before it would fix the
// transaction's view of the table at a moment when an older holder may not have committed. (TestAdvance_ReadBeforeItMayBeOld)
//
// # Ownership
//
// Tables, names and fences hold no connection and no goroutine; they may be kept and shared.
//
// # Time
//
// None. Advance waits for a transaction that holds the row, as long as ctx and innodb_lock_wait_timeout allow. A holder that is stopped
// inside a transaction keeps the row locked until the server ends its connection: keep transactions short, and see
// docs/fencing.md for the server's settings.
//
// # Failure
//
// ErrFenced, with the tokens in *FencedError; ErrNoRow; else the driver's error, wrapped. Deadlocks are the driver's errors too: Do has
// rolled back, and may be called again. Whoever fences several rows in one transaction takes them in one order.
//
// # Limits
//
// Tokens 1 … TokenMax. Identifiers 1–64 characters of printable ASCII. Names 1–NameBytesMax bytes. A deleted row takes its fence with it:
// protect rows that come and go by Names.
//
// # Not here
//
// Redis (package redisquiesce), the lock itself (package client), creating columns and tables (ColumnSchema and NamesSchema say how).
package fence
