package system

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/quiescehq/quiesce/bench/process"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// Etcd is a cluster of three members.
type Etcd struct {
	Endpoints []string

	members group
}

// StartEtcd starts the members and waits until there is a leader.
func StartEtcd(ctx context.Context, dir string) (_ *Etcd, err error) {
	e := &Etcd{}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close())
		}
	}()
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	addrs, err := freeAddrs(2 * Members)
	if err != nil {
		return nil, err
	}
	var cluster []string
	for i := range Members {
		cluster = append(cluster, fmt.Sprintf("e%d=http://%s", i+1, addrs[Members+i]))
	}
	for i := range Members {
		name := fmt.Sprintf("e%d", i+1)
		member := EtcdMember{Name: name, Dir: filepath.Join(dir, name), Client: "http://" + addrs[i], Peer: "http://" + addrs[Members+i],
			Cluster: strings.Join(cluster, ",")}
		e.Endpoints = append(e.Endpoints, member.Client)
		if err := e.members.start(process.Spec{Path: self, Args: append([]string{EtcdCommand}, member.args()...), Log: filepath.Join(dir, name+".log")}); err != nil {
			return nil, err
		}
	}
	return e, e.members.await(ctx, "the etcd cluster", func(ctx context.Context) error {
		_, err := e.Leader(ctx)
		return err
	})
}

// PIDs of its processes.
func (e *Etcd) PIDs() []int { return e.members.pids() }

// Close ends the members.
func (e *Etcd) Close() error { return e.members.kill() }

// Leader is the endpoint of the member that leads: clients that go there spare their requests a hop.
func (e *Etcd) Leader(ctx context.Context) (string, error) {
	client, err := DialEtcd(e.Endpoints...)
	if err != nil {
		return "", err
	}
	defer func() { _ = client.Close() }()
	for _, endpoint := range e.Endpoints {
		status, err := client.Status(ctx, endpoint)
		if err != nil {
			return "", err
		}
		if status.Leader != 0 && status.Leader == status.Header.MemberId {
			return endpoint, nil
		}
	}
	return "", errors.New("the etcd cluster has no leader")
}

// DialEtcd makes a client: one connection to each endpoint.
func DialEtcd(endpoints ...string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: askMax, Logger: zap.NewNop()})
}
