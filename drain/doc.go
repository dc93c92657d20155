// Package drain finishes in MySQL and Redis what instances leave behind: it ends their transactions, adopts what those that were lost or
// forced could not finish, and removes the cache keys of services that are gone.
//
// # Purpose
//
// A [Task] runs on the leader. Who may stop when, which drain passed its deadline, when a cleanup may begin and when it must stop: all that is
// decided inside the replicated state (fsm). This package does what needs the outside world, and logs what it did.
//
//   - For each source one reader looks at INNODB_TRX, shows and logs what is open for long, and ends what the policy says, after a second look.
//   - Every lost or forced instance goes through the steps keys, prepared (where it had announced transactions), transactions, done.
//   - Every running cleanup scans its target and unlinks what matches, a batch at a time.
//
// # Invariants
//
//	D1 A connection is ended by the leader only if an instance reported it that is lost, forced or past the deadline of its transactions, no
//	   living instance reports it too, and the server has surely been up since the report; or, with the policy all, if its transaction is long
//	   and its user is on the list. (TestPolicy_EndsOnlyWhatIsSurelyOwnedByWhoMustNotHaveIt, TestAdopt_ThreadThatAnotherConnectionGotSinceIsNotEnded,
//	   TestAdopt_ProcessThatRegisteredAnewKeepsItsConnections)
//	D2 Between the decision and the end the transaction was seen again and was the same: package mysql proves it, for operators' wishes too.
//	   (TestWatch_OperatorDoesNotEndWhatIsAnotherTransactionNow)
//	D3 An adoption is done only after a reading that began later showed no transaction that is to end, or after its wait was over, and then it
//	   says so. (TestAdopt_RollbackIsWatchedToItsEnd, TestWatch_NoAdoptionEndsOnAReadingThatIsNotWhole, TestAdopt_WaitsAreBounded)
//	D4 Keys of an ended instance become events once, whatever answers are lost and whoever leads.
//	   (TestAdopt_KeysBecomeEventsOnceThoughAnswersAreLostAndLeadersChange)
//	   An adoption waits until what its instance had announced is resolved, which package relay does. (TestAdopt_WaitsForWhatWasAnnounced)
//	D5 Before each batch of a cleanup the log has agreed that it is still running, and whoever proposed that was the leader.
//	   (TestCleanup_RegistrationStopsItBeforeTheNextBatch, TestCleanup_LeaderThatIsDeposedRemovesNothingMore)
//	D6 A cleanup that is done has gone over all keys within one life of its server: a cursor of another life is not followed.
//	   (TestCleanup_ServerThatRestartsInTheMiddleIsGoneOverFromTheStart, TestCleanup_NewLeaderGoesOnFromTheLoggedCursorUnlessTheServerMayBeAnother)
//
// # Whose connection it is
//
// Connection ids begin anew with each life of a server, and nothing on the server says who has one. So a report counts only if the server was
// up when it was made. Reports that this leader saw come in, from the server that it was watching already, have an age that it knows. Of older ones
// it knows only cluster time, which stands still without a leader: for them the server must have been up for [Config].OutageMax longer, and
// a transaction that began after its instance ended is not taken for its own. After a power failure of everything this leaves the first hour's strangers alone, at
// the price that an operator may have to end something by hand.
//
// # Ownership
//
// Run owns a goroutine for each source, one for adoptions, one for notices, one for cleanups and one for each cleanup at work; all are joined before it
// returns. Readers belong to their source's goroutine, which serves operators' wishes as well, and lets go of the server when the run ends.
//
// # Time
//
// Ages of reports are cluster time, ages of transactions the server's clock, waits the local monotonic one. INNODB_TRX is read every
// [Watch].Every, and as often as every 250 ms while an adoption has just begun.
//
// # Failure
//
// A source or target that does not answer is asked again with capped backoff and holds up nobody else; an adoption records what it waits for, and gives up after
// UnreachableMax; a cleanup fails after CleanupRetry. A privilege that is missing is logged once and shown while it is missing. An entry whose outcome is
// unknown is proposed again: its repetition changes nothing. A batch that was removed and not logged is not counted by the next leader.
// A leader that was deposed a moment ago may still end a connection that it was right to end then.
//
// # Limits
//
// config.go. One reading shows at most [mysql.TransactionsMax] transactions and follows lookedUpMax of them, the oldest first. A source is
// one server that is reached without a proxy that shares connections out. After a failover of a source to a server that has long been up, ids that were
// reported to an earlier leader are believed to be of that server; to be safe against that too, name the applications' accounts in KillUsers.
//
// # Not here
//
// States, budgets, grants, deadlines, plans (fsm); the second look and the KILL (mysql); SCAN and UNLINK (rediscache); delivery of the adopted
// keys (outbox).
package drain
