package system

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"

	"go.etcd.io/etcd/server/v3/embed"
)

// EtcdCommand is the argument with which this program is a member of an etcd cluster.
const EtcdCommand = "etcd-node"

// EtcdMember is the configuration of one member; all else is etcd's default.
type EtcdMember struct {
	Name, Dir, Client, Peer, Cluster string
}

func (m EtcdMember) args() []string {
	return []string{"-name", m.Name, "-dir", m.Dir, "-client", m.Client, "-peer", m.Peer, "-cluster", m.Cluster}
}

// RunEtcdMember is a member until ctx ends.
func RunEtcdMember(ctx context.Context, args []string, out io.Writer) error {
	var m EtcdMember
	flags := flag.NewFlagSet(EtcdCommand, flag.ContinueOnError)
	flags.SetOutput(out)
	flags.StringVar(&m.Name, "name", "", "name of the member")
	flags.StringVar(&m.Dir, "dir", "", "data folder")
	flags.StringVar(&m.Client, "client", "", "URL for clients")
	flags.StringVar(&m.Peer, "peer", "", "URL for the other members")
	flags.StringVar(&m.Cluster, "cluster", "", "name=URL of all members, separated by commas")
	if err := flags.Parse(args); err != nil {
		return err
	}
	config, err := m.config()
	if err != nil {
		return err
	}
	server, err := embed.StartEtcd(config)
	if err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	defer server.Close()
	select {
	case err := <-server.Err():
		return err
	case <-ctx.Done():
		return nil
	}
}

func (m EtcdMember) config() (*embed.Config, error) {
	client, clientErr := url.Parse(m.Client)
	peer, peerErr := url.Parse(m.Peer)
	if err := errors.Join(clientErr, peerErr); err != nil {
		return nil, err
	}
	c := embed.NewConfig()
	c.Name, c.Dir, c.InitialCluster = m.Name, m.Dir, m.Cluster
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{*client}, []url.URL{*client}
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{*peer}, []url.URL{*peer}
	c.LogLevel = "error" // its warnings about slow requests cost it time under load
	return c, nil
}
