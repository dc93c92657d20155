package services_test

import (
	"testing"

	"github.com/quiescehq/quiesce/cluster_test/services"
)

func TestOwnReplica_FollowsItsPrimaryAndStopsWhenFrozen(t *testing.T) {
	t.Parallel()
	primary := services.OwnRedis(t)
	replica := services.OwnReplica(t, primary)
	primary.Do("SET", "k", "1")
	if got := primary.Do("WAIT", 1, 5000); got != int64(1) {
		t.Fatalf("WAIT answered %v", got)
	}
	replica.Freeze()
	primary.Do("SET", "k", "2")
	replica.Thaw()
	services.Eventually(t, "the replica has caught up", func() bool { return replica.Do("GET", "k") == "2" })
}

func TestOwnSentinels_FailoverMakesTheReplicaThePrimary(t *testing.T) {
	t.Parallel()
	set := services.OwnSentinels(t)
	first := set.Primary
	set.Failover()
	if set.Primary == first || set.Primary.Info("replication", "role") != "master" {
		t.Errorf("%s is the primary after %s", set.Primary.Addr, first.Addr)
	}
}

func TestOwnCluster_SlotsMoveAndReplicasTakeOver(t *testing.T) {
	t.Parallel()
	cluster := services.OwnCluster(t)
	const key = "{tag}key"
	from := cluster.Owner(key)
	cluster.Primaries[from].Do("SET", key, "v")
	to := (from + 1) % 3
	cluster.Migrate(key, to)
	if got := cluster.Owner(key); got != to || cluster.Primaries[to].Do("GET", key) != "v" {
		t.Fatalf("the key is at %d, want %d", got, to)
	}
	old := cluster.Primaries[to]
	cluster.Failover(to)
	if cluster.Primaries[to].Info("replication", "role") != "master" || cluster.Primaries[to].Do("GET", key) != "v" {
		t.Fatal("the replica has not taken over with its data")
	}
	cluster.Primaries[from].Kill()
	cluster.Failover(from)
	if old.Info("replication", "role") != "slave" {
		t.Error("the old primary goes on")
	}
}
