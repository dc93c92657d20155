// Package alert tells the outside world when the sync of a mapping needs somebody: by webhooks.
//
// # Purpose
//
// A [Task] runs on the leader. Once in a while it looks at the replicated state and knows for each mapping which conditions hold: it has dead
// letters, its events wait for too long, its cache is in doubt, its last pass found differences, a pass asks for an approval. When a condition begins, grows worse or ends, every
// [Hook] that asked for its kind gets a [Notice], a small JSON document, by POST.
//
// # Invariants
//
//   - A condition that holds is told until a hook answered 2xx: what was not heard goes into the next notice, with the figures as they are then. (TestTask_WhatWasNotHeardIsToldAnew)
//   - A condition is told when it begins, when it ends, and in between only when it has grown and Repeat has passed. (TestTask_TellsTheBeginningTheGrowthAndTheEnd)
//   - A hook that hangs holds up neither the others nor the deliveries. (TestTask_HookThatHangsHoldsUpNobodyElse)
//   - Notices name mappings and classes of failure, never values or keys of rows.
//
// # Ownership
//
// Run owns one goroutine that looks and one for each hook; all are joined before it returns.
//
// # Time
//
// The local clock paces the looks and the repetitions. Ages are cluster time.
//
// # Failure
//
// What was told dies with the leader. The next one tells every condition that it finds: receivers hear it twice after a failover, and never
// too little; key, kind and mapping of a notice tell repetitions apart. The end of a condition that began under an earlier leader, and ended before the next looked, is not told.
//
// # Limits
//
// HooksMax hooks; one request at a time to each; AnswerTimeout a request; fsm.MappingsMax mappings of five kinds each.
//
// # Not here
//
// Grouping, silencing, routing to people: what receives webhooks does that. Metrics say the same (httpapi).
package alert
