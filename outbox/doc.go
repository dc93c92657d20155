// Package outbox delivers events: for each row that may be stale in Redis it reads the row on the primary and writes its rendering, or
// removes its key.
//
// # Purpose
//
// A [Task] runs on the leader. It takes due events out of the replicated state in batches of one mapping, and for each batch
//
//	notes the events' tokens → begins on Redis → reads the rows → renders → applies on the same connection → settles, in one log entry.
//
// What failed is tried again later, or becomes a dead letter.
//
// # Invariants
//
//   - Order of reading: a token is noted, then the batch begins, then the row is read. Since a token is given after its commit is visible, what is written under a token is at
//     least as new as the commit that asked for it. Turning any two of these around lets the cache keep an old value for ever.
//   - A row is in one batch at a time. This saves work; the guard in Redis, not this rule, keeps the order.
//   - Only an outcome that was read settles an event, only up to the token it was delivered under, and only under the mapping revision it was rendered by.
//   - A token that is older than its mapping's revision may have been written by the rule before, and Redis would call the new rendering superseded. Such an event is not
//     delivered but gets a new token, by being enqueued again.
//   - An event settles when all its keys are written or superseded, under one token. Until then all of them are written again; the guards of those that were answer so.
//     (TestDelivery_EventSettlesOnlyWhenAllItsKeysAreWritten)
//   - An event with Drop, as a pass in mode invalidate asks for, removes its keys and reads no row, also where the row cannot be read. An ordinary event of the row that comes
//     meanwhile is delivered after it. (TestDrop_RemovesAllKeysOfARowWithoutReadingIt, TestDrop_NewerOrdinaryEventPrevails, TestDrop_WaitsForNoRowThatCannotBeRead)
//   - An event is buried only after its keys were removed and fenced. While the target cannot be reached it stays pending.
//   - A fault of a source or target spends no attempt of any event.
//
// # Ownership
//
// [Task.Run] owns one goroutine that decides, and at most BatchesMax that deliver; it returns when all have ended. Claims, breakers and batch sizes belong to the deciding one and
// die with the run: the next leader starts without them. Two runs of two leaders may overlap for a moment; the guards make that harmless.
//
// # Time
//
// Next attempts are cluster time, for they outlive the leader. Breakers and timeouts use the local monotonic clock. Nothing polls: the task sleeps until an event or a mapping
// changes, a batch ends, an attempt is due or a breaker lets a probe through.
//
// # Failure
//
// Unknown outcomes, of Redis or of the log, are answered by beginning anew: what was written after all answers superseded, and settles. A row's own fault is retried with
// exponential backoff and full jitter, and buried after AttemptsMax attempts, or at once where the same row could only fail again. A fault of a place (a target, or a table of a
// source) counts against that place's breaker. An open breaker leaves the events alone; after a pause one small batch probes, and then the batches double from that size.
//
// # Recent settlements
//
// [Task.Recent] tells a reconciliation pass whether a row's key was written meanwhile. The caller notes the state's revision before it reads the row, compares with the cache, and on a
// difference asks first whether an event of the row is pending, then Recent with the noted revision. In the other order an event could come and go between the two questions.
// covered is false when settlements since then may have been forgotten (the ring is full, or another leader ran): then nothing is known and the row is to be compared again.
// Recent must not be called inside Log.View.
//
// # What is lost with a target
//
// [Task.WrittenSince] gives the rows whose keys were written since a moment, for a target that was restarted or replaced (failover). [Task.Timeline] tells what became of a row's last
// deliveries. Both remember RecentRowsMax deliveries of this run, and say how far back that reaches.
// (TestWrittenSince_TellsWhatIsUnderWayAndWhatWasSettledAndWhetherThatIsAll, TestTimeline_TellsWhatBecameOfARow)
//
// # Pauses
//
// The state says which mappings, targets, or all, are paused: nothing new of them is begun, and what is under way ends. (TestPause_HoldsWhatItNamesAndNothingElse)
//
// # Limits
//
// [Config] bounds rows per batch, batches at a time, attempts, delays and the ring. Stats looks at no more than oldestScanMax events of a mapping to find the oldest.
//
// # Not here
//
// Acceptance of events (httpapi, fsm), the order of writes in one key (rediscache), what a row becomes (mapping), finding of differences (reconcile).
package outbox
