// Package mysql is the MySQL side: it reads rows on a server that proves, in the same statement, that it is the primary.
//
// # Purpose
//
// A [Source] reads tables as a compiled mapping wants them: by the tuples of its key columns ([Source.ReadRows]) for delivery, by primary-key order ([Source.ReadPart]) for reconciliation, all rows of a part of the table or a sample of them. It describes
// tables ([Source.Columns]) and tries a mapping out before it is accepted ([Source.Inspect], [Source.Check]). A [TransactionReader] looks at the transactions of
// a server, and ends those that are to end. An [OutboxSource] has an account of its own for the quiesce tables: it reads and deletes outbox rows,
// sets bad ones aside, and probes and purges fences.
//
// # Invariants
//
//   - "The row is gone" is only ever said by a statement that also said "this server is writable". A missing proof, an error or read_only makes the whole batch unknown:
//     a replica that lags, or an old primary, would otherwise delete live keys.
//   - Every session is the same on every node: autocommit, READ COMMITTED, UTC, utf8mb4, one sql_mode. Session variables in a DSN are refused, for two nodes would print one row differently.
//   - Values are the server's own text. The driver parses FLOAT, DOUBLE and YEAR even in the text protocol, so those are selected as characters; FLOAT as col+0e0, for the server
//     prints six digits of it: 16777217 would become 16777200.
//   - A read by key takes only the row whose canonical tuple is the asked one, whatever else the column's collation finds. (TestReadRows_EachKeyFindsItsOwnRowOrIsRefused)
//   - The bounds of a part are compared by the server, in the order of the index: the first is in, the second out. (TestReadPart_BoundsAreHalfOpenInTheServersOrder)
//   - A sample is drawn by a keyed hash of the primary key: each row as likely as any other, the same rows for the same salt, and none but these leave the server.
//     (TestReadPart_SampleIsUniformAndTheSameEachTime; TestReadPart_CRCAloneWouldNotDo is the control)
//   - Identifiers come from information_schema and are quoted; literals are checked digits and dates, or hexadecimal. No other text reaches a statement except as an argument.
//   - No error, and no log line, holds a DSN.
//   - A connection is ended only while it is in the very transaction that was seen, as two readings at least 250 ms apart say, the second of
//     which is proved to be new, and the process list after them. It is KILL CONNECTION: KILL QUERY would leave the transaction open.
//     (TestKill_WhatIsAnotherTransactionNowIsLeftAlone, TestKill_NothingIsEndedWhileOtherReadersFreezeTheCache,
//     TestKill_QueryAloneLeavesTheTransactionToBeCommitted)
//   - Outbox rows are read without a lock and without a cursor, along the primary key, on a server that says that it is writable.
//     (TestOutboxRead_GoesAlongThePrimaryKeyOnly, TestOutboxRead_SeesOnlyWhatIsCommitted)
//   - A probe is one autocommit INSERT IGNORE at READ COMMITTED that waits two seconds for a lock: it says committed or rolled back only of a transaction that is over, or
//     that cannot commit any more, and holds nothing afterwards. (TestProbe_TellsCommittedRolledBackAndOpen, TestProbe_TakenFenceRefusesTheLateTransaction)
//   - Statements of others leave this package by [Scrub] only: without literals. (FuzzScrub)
//
// # Ownership
//
// A Source owns its connection pool. It starts no goroutine of its own, and [Source.Close] ends the pool. A Source is safe for concurrent use.
//
// # Time
//
// Each call ends within the query timeout of [Config] or with its context, whichever comes first. The server may go on with an abandoned statement until it writes to the closed connection.
//
// # Failure
//
// [Open] does not connect: a source that is down is normal. Calls fail with [ErrUnreachable], [ErrDenied], [ErrNotPrimary], [ErrTableChanged] or [ErrBatchTooLarge], each wrapping the driver's
// error where there is one. Nothing is retried here but what the pool itself retries before a statement was sent.
//
// # Limits
//
// BatchRowsMax and ChunkRowsMax rows a call, SampleRowsMax that a call goes over for a sample, 64 MiB of values a call; TransactionsMax transactions of a reading. Ages are those of the server's
// clock in its own time zone: where that is not UTC they may be an hour off while summer time ends. The proof is read_only: a writable replica passes it. Point a source at the primary.
// On Galera a read waits until its node has what the cluster committed (wsrep_sync_wait).
//
// # Not here
//
// What a row becomes (mapping), when to read again (outbox), what a difference means (reconcile).
package mysql
