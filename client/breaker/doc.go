// Package breaker gives the classes of package client a circuit breaker.
//
//	payments := app.Class(client.ClassExternal, 0, client.WithBreaker(breaker.New("payments")))
//	err := payments.Do(ctx, func(ctx context.Context) error { … })
//	if errors.Is(err, client.ErrCircuitOpen) {
//		… // nobody was asked
//	}
//
// # Invariants
//
//   - It opens when at least [RequestsDefault] outcomes of the last [WindowDefault] are known and half of them or more are failures.
//     (TestBreaker_OpensAtHalfOfAtLeastTwenty)
//   - Open, it refuses at once; after [OpenDefault] it lets [ProbesDefault] through, one success of each closes it, one failure opens it
//     again. (TestBreaker_ProbesAfterAWhile)
//   - What says nothing (client.ErrNotCounted) changes nothing, and gives a probe's place back. (TestBreaker_WhatSaysNothingIsNotCounted)
//
// What is a failure is the class's to say: see client.Class.Do and client.Class.Admit.
//
// # Ownership, time
//
// A Breaker has no goroutine; it looks at the clock when it is asked. It is sony/gobreaker with a rolling window. It may be shared by
// classes that need the same thing.
//
// # Not here
//
// Retries, fallbacks, and a limit of what is in flight: that is the class's.
package breaker
