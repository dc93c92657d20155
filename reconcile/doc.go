// Package reconcile compares a table with its cache, row by row and by hash, while both are in use, and has repaired what stays different.
//
// # Purpose
//
// A [Task] runs on the leader. For each running pass of the replicated state it reads the mapping's table in chunks by primary key, reads
// the keys of the chunk's rows from Redis, and judges them in the cache's own domain: what the mapping renders against the bytes that are
// there. A dry run reports; a rewrite also enqueues an ordinary event for each difference, which the outbox delivers with a new token, so
// a repair can never overwrite newer data; mode invalidate enqueues one that removes the keys. A repaired pass is not a clean one: start another to see that nothing is left.
//
// A pass may go over a range of the primary key, whose first bound is in it and whose second is not, as the server orders them (TestTask_RangeIsComparedAndNothingElse), or over a sample: rows that the
// server draws by a hash with the pass's id as salt, so that the next leader goes on with the same ones (TestTask_SampleIsTheSameForEveryLeader). Package bound tells what a sample says of the table.
//
// # Invariants
//
//	P1 Every row that was there when its chunk was read is counted in exactly one class, also over changes of the leader: a checkpoint
//	   names the cursor it continues, and covers only rows whose verdict is final. (TestTask_CountsAreExactAcrossLeaders)
//	P2 A difference is counted only after it was seen twice, ConfirmMs or more apart, each time between two equal readings of the row,
//	   the row being the same both times, with no event of it pending or announced, no delivery of it since before the first, and the relay of its outbox table through with what could be read
//	   then. What a pass fills is the exception. (TestTask_ReportsNothingInFlight, TestTask_RowsWithPendingEventsAreHot, TestTask_RowsWithAnnouncedEventsAreHot, TestTask_DifferencesWaitForTheRelay)
//	P3 Equal sums mean no stale, missing or wrongly typed row among those with a verdict, and the other way round.
//	   (TestTask_FindsEveryClassAndInventsNone)
//	P4 No more events are enqueued by a pass than its allowance, besides fills: at the first difference beyond, it is held until somebody approves. A pass that is approved, paused, resumed or taken
//	   over enqueues no event twice. (TestTask_IsHeldAtTheCap, TestTask_HeldPassGoesOnWhenApproved, TestTask_HoldIsNotRepeatedAfterAnApproval, TestHold_FindsThatItWasApproved, TestTask_PauseInMidTableKeepsCountsExactForTheNextLeader)
//	P5 No value of a masked column is in a sample. (TestTask_MaskedValuesAreInNoSample)
//	P6 What delivery writes of any value compares equal, and the smallest change of it does not. (TestTask_FindsTheSmallestChangeOfEveryType)
//
// # What is compared, and what the digest is for
//
// Every row is compared by itself; the digest decides nothing. A chunk's sums could only save the comparison, and that is the cheap part:
// both sides have been fetched and rendered by then, and a missing expiry or another spelling of the same JSON does not show in a sum. The
// digests are computed from the row and from the cached bytes independently (unless those bytes are the rendering's own), and a row about
// which comparison and digest disagree fails the pass: one of the two would be wrong, and nobody could tell which. The sums of all rows
// stand in the record, so that two passes, or table and cache, can be compared by three numbers. The key is inside the hash and the sums are additive: two values that were swapped
// change the sum, where an XOR of CRC-32 stays the same (TestDigest_SwappedValuesChangeTheSumWhereXorOfCRCIsBlind).
//
// # Verdicts
//
//   - equal, format_only, stale, missing, wrong_type and no_ttl are [mapping.Mapping.Compare]'s. format_only is no difference.
//   - A row has one verdict, whatever the number of its keys: that of the worst. One that names no key, because a key column is NULL, is equal.
//     (TestTask_ComparesEveryKeyOfARow, TestTask_ComparesKeysOfOtherColumns)
//   - An absent key is equal where the mapping's presence is optional, as it is by default with a TTL: it has expired or was never filled, readers go to the table, and nobody
//     reads anything wrong. Such rows are in neither sum, so Rows - Hot - Expected.Count is the number of misses. Where presence is required an absent key is missing.
//   - A row that has no rendering must have no key, because delivery removes the key before it buries such an event. Present, it is stale.
//   - A pass that fills takes an absent key for missing, also where it may be absent, and writes it. It does so at the first look, without waiting for a confirmation: the event reads the row anew and
//     overwrites nothing. For the same reason it does not count for the cap. (TestTask_FillWritesWhatIsAbsentAndCountsItApart, TestTask_RowsWithEventsAreNotFilledAgain)
//   - Mode invalidate enqueues nothing for a row that has no key: there is nothing to remove. (TestTask_InvalidateRemovesWhatDiffers)
//   - hot is a row that differed while an event of it was pending or announced, while the relay of its outbox table was paused or did not get to the end of it in RelayWait, that never stood still for three looks, or that vanished. It has no verdict and is in neither sum.
//   - A mapping that only invalidates has nothing to compare going forward from its rows, for any value of a present row is right. Its passes fail and say so, or go on to the keys without a row. Only in mode
//     invalidate each key that is there counts as stale, is shown as unverified, and is removed: nobody can vouch for it. (TestTask_InvalidateRemovesAllKeysThatNobodyCanVouchFor)
//
// # Keys without a row
//
// A pass with extras goes over the target's keys after the rows. A key below the mapping's prefix that parses, and renders back to the very same bytes, is asked for its row; one that has none is put to the
// same questions as a difference of a row, and again ConfirmMs later, when row and key are read once more. Everything else below the prefix is foreign, and left alone
// (TestKeys_FindsEveryKeyWithoutARowAndTouchesNoOther, TestKeys_WhatMovesIsNotExtra). Removing them needs an approval, after which the phase begins anew and asks again about each key; no more are removed than were
// approved (TestKeys_RemovesAsManyAsWereApproved). The cursor holds for one life of the target: in another the phase begins anew (TestKeys_TargetThatIsAnotherOneInMidPass). A key that a scan gives twice counts
// once, but not over a change of the leader, nor beyond 2^20 suspects (TestKeys_KeyThatIsGivenTwiceCountsOnce).
//
// # Schedules
//
// The leader works out the slots of each schedule (package schedule) and asks the state to begin a pass for a slot, which does so once, whoever asks how often. Of several slots that nobody took, the newest
// within an hour counts. (TestTask_RunsAPassAtItsTime)
//
// # Agreement
//
// Of the events whose delivery begins a sample is kept, and the key of each is looked at 10 s, 1 min and 5 min after it was accepted, with the same questions: [Task.Agreement]. What is delivered for the
// first time after a window has missed it. A row that has changed again says nothing about the older event and is left out, and so is what cannot be read. (TestAgreement_LateAndNever,
// TestAgreement_DeliveryThatBeginsLateHasMissedItsWindows, TestAgreement_NewerEventLeavesTheOlderOneOut) The counts are in the leader's memory. Changes that nobody announced are not in them: passes find those.
//
// # How a difference is established
//
// A mismatch in a chunk is only a suspicion: row and key were read at different times. A suspect without a pending event is read again as a
// sandwich (row, key, row), after the state's revision was noted. It is looked at once more when the row changed inside the sandwich, when the outbox
// touched it since that revision, or when the outbox's memory does not reach back so far; three such looks make it hot. An unexplained difference becomes
// open: it waits in the window, without holding up the scan, until it is ConfirmMs old, and is then put to the same questions since its opening. A row that
// moved meanwhile is opened anew, twice at most. Last, the relay must have read the outbox table to its end since: the row that would explain the difference may stand there. Rows wait for that in one batch
// at a time, while the scan goes on; a relay that is paused is not waited for. (TestTask_PausedRelayMakesWhatDiffersHotAtOnce, TestTask_RelayThatNeedsTooLongMakesRowsHot) ConfirmMs must exceed the time between a commit and its event's acceptance: that is the one
// change that nothing here can see.
//
// # When it stands still
//
// Before each read a pass looks, at most every ThrottleEvery, at the threads that run in MySQL, the round trip to Redis and the events that are pending. Any of them over its limit has it stand still, and
// [Progress].Throttled says which, with the figures. (TestTask_StandsStillForEachKindOfLoad) Replication lag is none of them: a read cannot cause it, and a scan that waits holds back the server's purge. Rates
// bound a pass, and all passes of the leader together. (TestTask_RatesBoundOnePassAndAllTogether) A pass that a schedule began stands still outside the schedule's window, and takes no place from others
// meanwhile. (TestTask_StandsStillOutsideItsWindow)
//
// # Ownership
//
// Run owns one goroutine that starts and ends passes, one for the schedules, one for the agreement, and one for each pass, and a pass two more: scan reads ahead, judge owns the window and the checkpoints. All are joined before Run returns.
// The window lives in memory only: a new leader finds the same differences again from the last checkpoint.
//
// # Time
//
// ConfirmMs is cluster time. Waits and rates use the local monotonic clock. A pass holds no transaction: each chunk is one statement, sized to take [Config].ChunkTime.
//
// # Failure
//
// MySQL, Redis, the log or the outbox out of reach: the pass keeps running and retries with capped backoff; [Task.Progress] says what it waits for. What no waiting
// cures ends the pass with a reason: mapping_changed, mapping_invalid, table_changed, range_invalid, not_comparable, not_fillable, internal.
//
// # Limits
//
// config.go. A pass holds at most two chunks, the answer of one Redis read, OpenMax (and one chunk, or PartKeys keys) open differences, and PartKeys keys of the target. If ConfirmMs is longer than the outbox remembers under
// the present load, rows that differ are hot. Passes over large values are bounded by bytes as well as by rows. A primary key of
// more than [fsm.PKBytesMax] bytes is no place that can be kept, and ends the pass. RelayWait bounds how long a difference waits for a relay.
//
// # Not here
//
// Delivery and its order (outbox, rediscache); the record of a pass and who may change it (fsm); which rows a sample draws (mysql), what it says of the table (bound); what is shown of a value (mapping).
package reconcile
