// Package syncchaos has applications change rows in every way in which events can be told, while nodes, applications, MySQL and Redis are killed, stopped and restarted, and
// judges at rest what the cache holds.
//
// # Purpose
//
// [Run] starts three nodes, a MySQL, a Redis that writes an append-only file with everysec, and three applications (package writer) with lanes of all tiers. Faults come
// one after the other, in an order that the seed gives. Then the applications are ended in the middle of what they do, and the run waits until nothing is under way.
// It judges by four witnesses that share nothing with the product: the tables, a journal that each transaction writes last, the applications' ledgers, and Redis with
// its append-only file (package oracle).
//
// # Invariants
//
// A run says nothing good unless all of this is true at rest:
//
//	S1  In tiers 2 to 4 every key holds what its row says, before anybody has asked for a pass.
//	S2  In tier 1 a key that does not belongs to a commit that is the last of its key and that no accepted call came after, by the application's own ledger: there was
//	    none, or it was made though the end of the commit was not known, and so perhaps before it. (TestVerdict_OnlyAnUncalledLastCommitExplains)
//	    A pass in mode rewrite over the mappings of tier 1, which looks for keys without a row too, brings all of these to what their rows say.
//	S3  No accepted event is lost: the last one of each key is done.
//	S4  No token in a guard ever falls, in no life of Redis.
//	S5  Nothing was ever written to Redis that was rolled back, on purpose or not; and what the SDK said was rolled back never happened.
//	S6  Each kind of fault that the time allows for has come and done what it is for, and each tier has made enough commits and rollbacks.
//	    (TestRun_IsInvalidWithoutFaultsCommitsOrControls)
//	S7  In the same run the judge is shown a state with one thing spoiled, and finds it: a byte of a value, a key, a token in a guard, a value of a rolled back
//	    transaction, a line of a ledger.
//
// # What a power cut is here
//
// A process that is killed loses nothing that it has given to the system. So a power cut of Redis is a kill after which the end of its file is cut off as well, by less
// than the second that everysec may lose. Such a cut comes only when a leader has led for some time and knows what it wrote; and a restart whose file is whole comes
// together with the loss of the leader, so that nobody knows anything and every mapping is in doubt. Both at once would bring back keys of rows that are gone, which
// docs/mappings.md excepts.
//
// # Ownership
//
// Faults are done by the goroutine of Run, to which all processes belong. There is no other.
//
// # Time
//
// The seed gives the faults, their order and how long they last, and what the applications will try; who comes first is the machine's choice.
//
// # Failure
//
// Everything wrong is told to the test and counted. The ledgers and logs of the applications of a failed run are copied to [Options].Keep.
//
// # Not here
//
// Each race by itself (the tests of packages outbox, relay, rediscache, failover), locks (package chaos).
package syncchaos
