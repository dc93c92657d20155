// Package client lets a Go application stop safely, take locks and keep its cache in step through a Quiesce cluster.
//
// # Stop safely
//
// Join registers the process, Handler counts its requests, Run serves until it is asked to stop and then drains, phase by phase:
//
//	app, err := client.Join("orders", client.FromEnv())
//	if err != nil {
//		log.Fatal(err)
//	}
//	app.Flush("dirty keys", cache.Flush)
//	code := app.Run(&http.Server{Addr: ":8080", Handler: app.Handler(routes)})
//	db.Close()
//	os.Exit(code)
//
// On SIGTERM the instance asks for a place in its service's disruption budget and serves on until it has one (announce). It stops being
// ready and says goodbye on each connection (lameduck), refuses new requests, ends streams and waits for the requests under way (reject),
// ends background work (consumers), waits for open transactions (transactions), runs the flush tasks (flush), gives its locks back (locks),
// closes its servers (close) and says that it left (leave). Each phase has a limit, scaled to the time that the platform grants:
// QUIESCE_GRACE or Grace, 25 s by default. A second signal ends everything at once.
//
// An application adds what it has to do: On and Flush put a task into a phase, Go runs background work that ends in consumers, Stream and
// Hijacked tell those that would go on for ever. Pause takes the instance out of service for a while; ReadOnly says that writes are to be
// refused, which Handler does.
//
// # Undo
//
// A drain that no signal asked for, but an operator, a plan or Drain, can be undone until the locks are given back: then the instance
// serves on and may drain again later. What the drain has ended begins anew: Draining and Context give new ones, Go runs its work again, and
// tasks with Undo are taken back, the last first. What it has not reached goes on undisturbed. A context or channel that was taken from
// before and has ended stays ended.
//
// # Take a lock
//
//	lock, err := app.Lock(ctx, "order/42")
//	if err != nil {
//		return err
//	}
//	defer lock.Unlock(ctx)
//	_, err = db.ExecContext(ctx, "UPDATE orders SET …, fence_token = ? WHERE id = ? AND fence_token <= ?", lock.Token(), id, lock.Token())
//
// A lock waits in the order of asking. Its Token orders the holders; a resource that refuses lower ones is safe from a holder that was
// stopped and does not know yet that it lost the lock. Work that takes a context gets lock.Context(ctx): it ends when the lock can no
// longer be relied on. Without an instance, use Client.OpenSession and Session.Lock. Both have TryLock, RWLock, Semaphore, LockMany (several
// names, all or none) and Election too. Callers of one session wait for each other like strangers, unless they say with Owner that they
// are the same.
//
// # Keep a cache in step
//
//	tokens, err := app.Enqueue(ctx, "orders", id) // after the commit
//
// That is the plain call. [App.Sync] also keeps what could not be told, sends it again and holds the phase flush for it, and removes keys from the
// cache first. What is lost with both is the moment between the commit and the call. Two ways close it: [App.EnqueueTx] writes the events into a
// table of the same transaction, which the coordinator empties; [App.InTx] announces them before the transaction begins. [Client.WaitEvent]
// waits until an event has reached the cache.
//
// # Invariants
//
//   - A mutating request is sent again only under the key of its first attempt. (TestCall_RetriesCarryTheSameKey)
//   - Operations that share a request are sent again together, each under its own key.
//     (TestBatch_UnknownOutcomeIsAskedForAgainAsAWholeUnderTheSameKeys)
//   - Callers of one session wait for each other as for strangers. (TestLock_CallersOfOneSessionWaitForEachOther)
//   - What a caller takes that has turned away is given back. (TestLock_GrantThatNobodyTakesIsGivenBack,
//     TestBatch_WhatWasTakenWithAnUnknownOutcomeIsGivenBackOnceItIsKnown)
//   - Lock.Done is closed before the coordinator can grant the lock to another, and a lock that was lost stays lost.
//     (TestLock_DoneClosesBeforeTheCoordinatorCanGrantToAnother, TestLock_LossIsToldOnceAndStays) Two ends come without that notice: a
//     forced release, against which only the token helps, and the holder's own HandOff.
//   - Once the gate rejects and no request is in flight, no handler runs. (TestGate_ZeroInFlightMeansThatNoHandlerRuns)
//   - No phase of a drain can keep the later ones from running, and a drain ends within the grace.
//     (TestRun_WorkThatNeverEndsIsLeftOverWithinTheGrace, TestTask_OneThatDoesNotHeedItsContextIsLeftBehindAtItsLimit)
//   - Between SIGTERM and exit no request is cut or refused a connection, if a balancer probes within the lame duck time.
//     (TestRun_SIGTERMUnderLoadCutsAndRefusesNothing)
//   - A second signal ends the process in every phase. (TestRun_SecondSignalEndsEveryPhase)
//   - No lock is given back before the coordinator has heard that the point of no return is reached, where the drain can be undone and it
//     can be reached within a second. (TestUndo_IsHeardAtThePointOfNoReturnAtTheLatest,
//     TestUndo_ACoordinatorThatIsAwayDoesNotHoldUpThePointOfNoReturn)
//   - A drain that the platform's signal asked for, or has hurried, is never undone. (TestUndo_NeverHappensToOneThatItsPlatformKills)
//   - An undo renews what has ended and nothing else. (TestUndo_WhatTheDrainEndedBeginsAnewAndTheRestIsNotDisturbed,
//     TestUndo_InTheQueueDisturbsNothing)
//   - A change that a Sync has taken is sent until it is accepted, refused for good and logged, or reported as left over; one that was committed
//     again while it was on its way is sent again. (TestSync_WhatIsNotTakenIsInvalidatedCountedAndSentAgain,
//     TestSync_WhatIsLeftAfterTheFlushIsReported, TestSync_WhatWasCommittedAgainIsSentAgain, TestSync_OneRefusedEventIsNotTheOthers)
//   - A prepared transaction that did not commit is canceled, and one of which that is not known is left to the coordinator.
//     (TestInTx_WhatDoesNotCommitIsCanceled, TestInTx_ACommitWithoutAnAnswerIsLeftToTheCoordinator)
//   - No transaction waits for a nudge. (TestEnqueueTx_OthersNudgeByHandAndWithoutHarm)
//   - An answer that was overtaken by what the instance has said since changes nothing. (TestNews_AnAnswerThatWasOvertakenIsNotHeeded)
//
// # Ownership
//
// A Client owns the goroutines that send what its callers ask for, joined into batches, and the one that keeps its sessions alive; an App
// its registration. Close of each, or Run's return, joins them. A caller whose context ends returns at once: what it had under way is
// brought to an end in the background, and what that took is given back. The one exception is a task, background work or a goodbye that
// does not heed its context: it is left behind, for the process is about to end.
//
// # Time
//
// Leases count from the moment a keepalive was sent, or the first attempt to open the session, on the local monotonic clock, and end a
// tenth of the TTL before the coordinator's. Every period and every backoff is jittered. Phases count from the first signal, which counts
// from when it came, also before Run.
//
// An instance's keepalive renews at once and then waits for news, for a quarter of the TTL at most: so a grant, an undo, a pause or
// read-only mode is heard within a round trip. A node that hangs meanwhile leaves another quarter to ask again.
//
// # Failure
//
// Leaving fails open, exclusion fails closed. Without a coordinator an instance starts (unless Required), serves, and drains on its own
// clock; Lock and Pause return an error. Refusals are *Error values, to be compared with errors.Is; ErrUnavailable means surely not applied,
// ErrOutcomeUnknown perhaps. An instance that the coordinator has given up (ErrFenced) refuses requests and exits with ExitLeftovers.
//
// # Limits
//
// 1,000 sequence numbers outstanding, 256 operations or some 256 KiB a batch, 100,000 operations and 100,000 events waiting to be sent,
// 1,000 events a request, 100,000 rows in a Sync, 10,000 events in one EnqueueTx, 1,000 sessions a keepalive, 4 MiB an answer, 16 counters
// a report, 256 tasks, 1,000 pieces of background work, 1,000 rows and 16 notes left over.
//
// # Not here
//
// Caches (redisquiesce), guards that check tokens (fence). Closing pools: after Run, or by a task in phase close.
package client
