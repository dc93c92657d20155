package client

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/url"

	"github.com/quiescehq/quiesce/api"
)

// Election gives the election of a name. It is a lock with a value: what works with locks works with it.
func (l *locking) Election(name string) *Election { return &Election{locking: l, name: name} }

// Election is a name that candidates want to lead.
type Election struct {
	locking *locking
	name    string
}

// Campaign waits until this candidate leads, as [Session.Lock] waits for a lock. The value is what observers see while it does, such as
// its address.
func (e *Election) Campaign(ctx context.Context, value string, opts ...LockOption) (*Leadership, error) {
	l, err := e.locking.Lock(ctx, e.name, append(opts[:len(opts):len(opts)], Value(value))...)
	if err != nil {
		return nil, err
	}
	return &Leadership{l}, nil
}

// Leader tells who leads now. See [Client.Leader].
func (e *Election) Leader(ctx context.Context) (Leader, error) {
	return e.locking.client.Leader(ctx, e.name)
}

// Observe tells who leads, from now on. See [Client.Observe].
func (e *Election) Observe(ctx context.Context) iter.Seq2[Leader, error] {
	return e.locking.client.Observe(ctx, e.name)
}

// Leadership is an election that was won. Its Done is closed before the coordinator can let another lead; its Token fences what the leader
// writes.
type Leadership struct{ *Lock }

// Proclaim changes the value that observers see.
func (l *Leadership) Proclaim(ctx context.Context, value string) error {
	return l.change(ctx, api.OpProclaim, api.Proclaim{Session: l.lease.session, Name: l.Name(), Token: l.Token(), Value: value})
}

// Resign gives the leadership to the first candidate in line. It is Unlock by the name it has with elections.
func (l *Leadership) Resign(ctx context.Context) error { return l.Unlock(ctx) }

// ResignTo gives the leadership to the candidate whose session to names. See [Lock.HandOff].
func (l *Leadership) ResignTo(ctx context.Context, to string) error { return l.HandOff(ctx, to) }

// Leader is who leads an election.
type Leader struct {
	Session    string // empty: nobody leads
	Owner      string
	Value      string
	Token      uint64
	Candidates int    // who wait
	Index      uint64 // revision of the state that says so
}

func leaderOf(e api.Election) Leader {
	l := Leader{Index: e.Index, Candidates: e.Candidates}
	if e.Leader != nil {
		l.Session, l.Owner, l.Value, l.Token = e.Leader.Session, e.Leader.Owner, e.Leader.Value, e.Leader.Token
	}
	return l
}

// same tells whether an observer has heard it all before.
func (l Leader) same(other Leader) bool {
	return l.Session == other.Session && l.Token == other.Token && l.Value == other.Value
}

// Leader tells who leads an election now.
func (c *Client) Leader(ctx context.Context, election string) (Leader, error) {
	var now api.Election
	if _, err := c.do(ctx, call{method: http.MethodGet, path: "/v1/elections?name=" + url.QueryEscape(election), answer: &now}); err != nil {
		return Leader{}, fmt.Errorf("leader of %q: %w", election, err)
	}
	return leaderOf(now), nil
}
