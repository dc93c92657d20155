//go:build race

package harness

// Nodes are built with the race detector where the tests are.
const raceEnabled = true
