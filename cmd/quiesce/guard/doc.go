// Package guard runs a command that must have ended by a certain time, whatever becomes of the process that asked for it.
//
// # Purpose
//
// Who runs a command under a lock may be killed or stopped while the command runs on, and then works without the lock. So there is a
// process in between, the guard: it starts the command, is told how long the lock can be relied on, and ends the command and all that it
// started in time, also when nobody tells it anything any more.
//
//	asker (has the lease) --- orders ---> guard --- starts, signals, reaps ---> command, its children, theirs
//	                      <--- news ----
//
// # Invariants
//
//	R1  Nothing that the command started runs at the last instant that the guard was told, if the guard runs. The command is asked to end
//	    (SIGTERM) a grace before it, and killed at it. (TestGuard_CommandAndItsChildrenHaveEndedAtTheInstant)
//	R2  The end of the asker, by kill -9 too, ends the command and its children. (TestGuard_EndOfTheAskerEndsTheCommandAndItsChildren)
//	R3  An asker that is stopped gets no further instant across: R1 holds. (TestGuard_StoppedAskerDoesNotKeepTheCommand)
//	R4  Only processes that have not been reaped, and their groups, are signalled: never one that got an old number.
//	R5  The outcome is told when nothing is left, or only what may be left. (TestGuard_RestIsEndedBeforeTheOutcomeIsTold)
//	R6  A command that is stopped in its own way (Stop) hears its signal alone, and what it started hears nothing while it runs. The time that
//	    it has is the guard's to keep. (TestGuard_StopReachesTheCommandAloneThenWhatItLeft, TestGuard_StopIsEnforcedWhoeverIsGone)
//
// # Ownership
//
// The guard is the same program once more, see Main. One goroutine, bound to its thread, forks, signals and reaps. Start's Child owns the guard's process and the goroutine that reads its news; Ended is its end.
//
// # Time
//
// Instants are nanoseconds of a clock that both processes see, and that runs on while the machine sleeps where there is such a clock
// (Linux). Two clocks of Go would not do: each begins with its process.
//
// # Failure
//
// When the guard is killed, the kernel kills the command (Linux), and the asker kills the rest of the command's group. When both are killed
// in the same moment, children of the command may stay. A process that hangs in the kernel, or that runs as another user, cannot be ended.
//
// # Limits
//
// On Linux the guard inherits orphans, so that not even setsid leaves it. Elsewhere it reaches the command's process group, and only as long as the
// command itself runs.
//
// # Not here
//
// Locks, leases, sentences for people: the program around it.
package guard
