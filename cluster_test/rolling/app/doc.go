// Command app is a small application that tests stop: with the SDK, or in the naive way.
//
// # Purpose
//
// APP_ROLE=naive calls http.Server.Shutdown as soon as it is signalled: the negative control of every test that says that nothing is lost.
// Else it is an instance of APP_SERVICE that does in each phase what a test wants of it: APP_HANG names a phase of the drain in which a task
// waits for as long as it may, APP_LOCKS takes locks, APP_LEFTOVER leaves a row's key behind, APP_DSN names the
// database of the guarded row.
//
// # Ownership
//
// main owns everything, and it all ends with the process.
//
// # Failure
//
// What cannot start says so in one line and exits with 3.
//
// # Not here
//
// An application as it should be: see examples/orders.
package main
