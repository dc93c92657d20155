// Package traffic is what stands before an application that is judged: the smallest balancer, requests, and what became of them.
//
// # Purpose
//
// A [Balancer] gives the backends that say that they are ready. [Exchange] sends one request over kept-alive connections, [Classify] tells
// what it came to, a [Tally] counts.
//
// # Invariants
//
//	T1  Whoever sends learns of every break: neither the balancer nor net/http repeats anything unseen.
//	T2  An answer is never taken for a broken connection, nor the other way round.
//
// # Ownership
//
// The balancer owns one poller for each backend and joins them in Close.
//
// # Not here
//
// Which requests are sent, how often they are repeated, and what must have come of them.
package traffic
