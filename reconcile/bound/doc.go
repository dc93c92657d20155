// Package bound tells what a sample says of the whole.
//
// # Purpose
//
// A pass over a sample finds some differing rows. [Upper] bounds the share of differing rows in the table from above and [Lower] from below, by the exact method of Clopper and Pearson: the largest, or smallest,
// share with which what was found is not yet less likely than one minus the confidence. Each is a bound on one side.
//
// # Invariants
//
//   - Over all samples the true share is below Upper, or above Lower, at least as often as the confidence says, whatever the share is. (TestUpper_HoldsAsOftenAsItSays)
//   - Nothing found is not nothing there: Upper of 0 in n is about 3/n at 95 %. (TestUpper_KnownValues)
//
// # Ownership, time, failure
//
// Functions of numbers. They answer for any input: a sample of nothing bounds nothing.
//
// # Limits
//
// About ten digits, for up to 2^53 rows. Rows are counted as if drawn one by one from many; where the sample is a large part of the table, the truth is closer than the bound.
//
// # Not here
//
// How rows are drawn (mysql), what a difference is (reconcile).
package bound
