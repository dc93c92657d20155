// Package figure is how a run reports: where it was measured, figures against their goals, and one JSON object on the last line.
//
// # Invariants
//
//   - A figure that was not measured is absent; none is made up. (Print)
//   - A goal is met at its limit. (Goal.Met)
//
// # Not here
//
// What is measured, and how: the commands.
package figure
