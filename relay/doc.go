// Package relay turns the rows of outbox tables into events, and finds out what became of transactions that were announced and never ended.
//
// # Purpose
//
// A [Task] runs on the leader. For each source that has an account for its quiesce tables:
//
//   - The mover reads the first committed rows of quiesce_outbox, gives their keys to the log in one entry, and deletes them.
//   - The prober looks at the fences of prepared events whose time has passed, and logs what it found: then they are delivered, whatever it was.
//   - The purger removes fences that are of no use any more.
//
// # Invariants
//
//	R1 A row is deleted only after the log has taken its events. A crash, or an answer that is lost, relays it once more, which is harmless: an event
//	   carries a key, and whoever delivers it reads the row. (TestRelay_CrashBetweenLogAndDeleteRelaysTwice, TestRelay_LostAnswerOfTheLogRelaysTwice)
//	R2 No row is passed over. Ids are given at INSERT and seen at COMMIT, so there is no cursor: each reading begins at the start of the table.
//	   (TestRelay_RowWithALowerIDThatCommitsLaterIsRelayed; TestGap_CursorLosesWhatCommitsLater is the control)
//	R3 Nothing is locked in MySQL while the log is asked. (TestRelay_ApplicationInsertsWhileTheLogIsBlocked; TestLock_LockingReaderHoldsUpTheApplication is the control)
//	R4 A token is given after the row was seen, so after its transaction was committed: a delivery reads what it committed.
//	R5 What cannot become events is set aside in quiesce_refused with the reason, and holds up nobody. (TestRelay_RowsThatCannotBeAcceptedAreSetAside)
//	R6 A verdict means that the transaction is over: one that holds its fence is looked at again later, and one that has not come to its fence fails when it does.
//	   (TestProbe_OpenTransactionIsAskedAgainUntilItCommits, TestProbe_RollbackWithoutSubmitTakesTheFence)
//	R7 [Task.Drained] says true only after a reading that began later than the mark found the end of the table and the log has taken all it found.
//	   (TestDrained_SaysYesOnlyAfterWhatWasVisibleIsInTheLog)
//
// # Ownership
//
// Run owns three goroutines for each source and joins them; a round of probes has one for each fence. Statistics and marks outlive a run and belong to the process.
// Two leaders may overlap for a moment: rows are relayed twice, set aside once, and a fence has one taker.
//
// # Time
//
// Readings follow each other at once while the table fills a batch, after PollMin while rows come, and up to PollMax apart when none do; a nudge
// reads at once. A reading takes up at most half of the time, but for full batches. When a fence is to be looked at is cluster time; ages of rows and fences are the server's.
//
// # Failure
//
// A source that does not answer, a table that is missing, a log that does not take an entry: backoff, a line in the log once, and the state failing.
// A full outbox (state full) and a pause leave the rows in MySQL. (TestRelay_FullOutboxLeavesRowsInMySQL, TestRelay_PausedReadsNothing)
// A mapping that this version cannot use stops its source's relay, and none of its rows is set aside. A fence that was purged before a late look is harmless: the look
// takes it again, and the events are delivered. (TestProbe_FencePurgedBeforeALateLookIsHarmless)
//
// # Limits
//
// One batch in memory, of RowsMax rows with keys of up to [mysql.OutboxKeyBytesMax] bytes, and the ids of one that are not deleted yet. A transaction of a million rows is
// a thousand batches. (TestRelay_GiantTransactionGoesInBatches) Rows that were deleted and cannot be purged, since some transaction may see them, are passed over by each
// reading along the primary key: a read view that is open for hours beside a busy table makes readings slow, and the watch of long transactions shows it.
//
// # Not here
//
// The statements (mysql), what a key means (mapping, behind [Mapper]), delivery (outbox), submit and cancel (httpapi, fsm).
package relay
