package harness

import (
	"errors"
	"fmt"

	"github.com/quiescehq/quiesce/cluster_test/links"
)

// link puts links between the nodes. Clients, and so the tests, reach a node where it listens: what is stalled is between nodes only.
func (c *Cluster) link() {
	c.t.Helper()
	c.Links = links.New()
	c.t.Cleanup(c.Links.Close)
	for _, n := range c.Nodes {
		n.told.http, n.told.peer = FreeAddr(c.t), FreeAddr(c.t)
		if err := errors.Join(c.Links.Forward(n.ID, n.told.http, n.HTTPAddr), c.Links.Forward(n.ID, n.told.peer, n.PeerAddr)); err != nil {
			c.t.Fatal(err)
		}
	}
}

// addresses are the node's own in its configuration.
func (n *Node) addresses() string {
	if n.told.http == "" {
		return fmt.Sprintf("http_addr: %q\npeer_addr: %q\n", n.HTTPAddr, n.PeerAddr)
	}
	return fmt.Sprintf("http_addr: %q\npeer_addr: %q\nhttp_listen: %q\npeer_listen: %q\n", n.told.http, n.told.peer, n.HTTPAddr, n.PeerAddr)
}

func (n *Node) toldPeer() string {
	if n.told.peer == "" {
		return n.PeerAddr
	}
	return n.told.peer
}
