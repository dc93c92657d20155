// Package load drives closed loops of workers and reduces what they saw to figures.
//
// # Invariants
//
//   - The first step that fails ends the loop, and the loop has no figure then.
//   - Only steps that end within the measured time count; all of them count.
//
// # Ownership
//
// Run owns its workers and joins them. A Sample is a value.
//
// # Time
//
// The local monotonic clock. Workers start together, warm up, and stop when the measured time is over; a step under way then is let end.
//
// # Limits
//
// A sample keeps the duration of each step: 8 bytes for each, for a few seconds.
//
// # Not here
//
// What a step is: package loads. Which loops are run, and how they are compared: the command.
package load
