// Package services gives tests a real MariaDB or MySQL and a real Redis or Valkey.
//
// # Purpose
//
// A test calls [Require] and gets a database of its own and a key prefix of its own on a pair of throw-away servers that
// many tests share, or [Own] and gets a pair that it may stop, kill and start. [OwnRedis], [OwnReplica], [OwnSentinels] and [OwnCluster] give it
// Redis servers alone, which it may also freeze, with what belongs to them; their failovers come when the test asks for them, and not before.
//
// # Invariants
//
// The servers are never the machine's own: scripts/services.sh started them on loopback, on free ports. A test never sees
// another test's rows or keys, as long as it stays in its database and under its prefix: nothing here flushes a server.
//
// # Ownership
//
// The environment variable [EnvDescription] names a description (DIR/services.json) of the pair to share; who set it ends
// that pair, as scripts/test.sh does. Without it one pair is started per user and boot of the machine, in a folder below
// [os.TempDir]; all test binaries then share it, and nobody ends it, so that the next run need not wait. End it with:
//
//	scripts/services.sh down "$(scripts/services.sh shared-dir)"
//
// A pair from [Own], and every server of the functions that begin so, belongs to its test and ends in the test's cleanup. A test binary that is killed cannot clean up;
// scripts/test.sh ends what such a binary left behind.
//
// # Failure
//
// A server that is missing and cannot be installed fails the test with the script's one sentence. It never skips: a suite
// that is green because it ran nothing would say that the product works.
//
// # Time
//
// Starting a pair takes about a second on an idle machine, a set of sentinels or a cluster some three; every call of the script is bounded by
// scriptTimeout, every wait for a Redis by redisWaitTimeout.
//
// # Limits
//
// The shared MySQL accepts 300 connections; give each pool of a test a small MaxOpenConns. Keys under a prefix stay in the
// shared Redis until the pair ends.
//
// # Not here
//
// Schemas, rows, the node processes and their cluster.
package services
