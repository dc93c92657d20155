package loads

import (
	"context"
	"errors"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/quiescehq/quiesce/bench/system"
)

// Etcd is etcd through concurrency.Mutex.
type Etcd struct {
	clients  []*clientv3.Client
	sessions []*concurrency.Session
}

// NewEtcd opens some connections and spreads sessions over them, which the workers share in turn. A session owns a mutex whoever of its
// workers took it, so a contended load needs a session for each.
func NewEtcd(ctx context.Context, endpoint string, connections, sessions int) (*Etcd, error) {
	e := &Etcd{sessions: make([]*concurrency.Session, sessions)}
	for range connections {
		client, err := system.DialEtcd(endpoint)
		if err != nil {
			return nil, errors.Join(err, e.Close(ctx))
		}
		e.clients = append(e.clients, client)
	}
	err := each(sessions, func(i int) (err error) {
		e.sessions[i], err = concurrency.NewSession(e.clients[i%connections], concurrency.WithTTL(int(sessionTTL.Seconds())), concurrency.WithContext(ctx))
		return err
	})
	if err != nil {
		return nil, errors.Join(err, e.Close(ctx))
	}
	return e, nil
}

// Lock is Mutex.Lock.
func (e *Etcd) Lock(ctx context.Context, worker int, name string) (Unlock, error) {
	mutex := concurrency.NewMutex(e.sessions[worker%len(e.sessions)], name)
	if err := mutex.Lock(ctx); err != nil {
		return nil, err
	}
	return mutex.Unlock, nil
}

// Queued is how many hold or wait for a lock: each has a key below its name.
func (e *Etcd) Queued(ctx context.Context, name string) (int, error) {
	answer, err := e.clients[0].Get(ctx, name+"/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return 0, err
	}
	return int(answer.Count), nil
}

// Close revokes the sessions and closes the connections.
func (e *Etcd) Close(context.Context) error {
	err := each(len(e.sessions), func(i int) error {
		if e.sessions[i] == nil {
			return nil
		}
		return e.sessions[i].Close()
	})
	for _, client := range e.clients {
		err = errors.Join(err, client.Close())
	}
	return err
}
