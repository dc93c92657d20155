package main

import (
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/quiescehq/quiesce/api"
)

func (c *cli) statusCommand() *cobra.Command {
	var stale bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the cluster: its members, its leader, and how many may fail",
		Args:  takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			path := "/v1/cluster"
			if stale {
				path += "?consistency=" + api.Stale
			}
			var cluster api.Cluster
			if err := c.call(cmd.Context(), http.MethodGet, path, nil, &cluster); err != nil {
				return err
			}
			return c.show(cluster, func(w io.Writer) { writeCluster(w, cluster) })
		},
	}
	cmd.Flags().BoolVar(&stale, "stale", false, "as the node that is asked sees it, also where there is no leader")
	return cmd
}

func writeCluster(w io.Writer, cluster api.Cluster) {
	leader := "none"
	if cluster.Leader != "" {
		leader = fmt.Sprintf("%s  %s", cluster.Leader, cluster.LeaderURL)
	}
	about := &table{}
	about.add("cluster", cluster.ID)
	about.add("leader", leader)
	about.add("term", number(cluster.Term))
	if cluster.Leader != "" {
		about.add("may fail", tolerance(cluster.FailureTolerance))
	}
	about.add("revision", fmt.Sprintf("%d, digest %s", cluster.Index, cluster.Digest))
	about.write(w)
	fmt.Fprintln(w)
	t := &table{head: []string{"NODE", "STATUS", "ROLE", "BEHIND", "VERSION", "HTTP", "PEERS"}}
	for _, n := range cluster.Nodes {
		role, behind := n.Suffrage, ""
		if n.ID == cluster.Leader {
			role = "leader"
		}
		if n.AppliedIndex > 0 {
			behind = number(max(cluster.AppliedIndex, n.AppliedIndex) - n.AppliedIndex)
		}
		t.add(n.ID, n.Status, role, behind, n.Version, n.HTTPAddr, n.PeerAddr)
	}
	t.write(w)
}

func tolerance(voters int) string {
	switch voters {
	case 0:
		return "none: the next failure of a voter is an outage"
	case 1:
		return "1 voter"
	}
	return fmt.Sprintf("%d voters", voters)
}
