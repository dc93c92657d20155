package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/bench/wire"
)

const (
	retryPause = 50 * time.Millisecond
	attemptMax = 15 * time.Second // a keepalive may be parked in it
)

// member is one instance: it may restart, under the same name. It belongs to one goroutine.
type member struct {
	patient *wire.Patient
	service string
	name    string
	ttl     time.Duration

	id          string
	incarnation uint64
	index       uint64 // of the last answer to a keepalive
	seq         uint64 // of phase reports
	body        []byte
}

func newMember(addr, run, service string, number int, ttl time.Duration) *member {
	name := fmt.Sprintf("%s-%d", run, number)
	return &member{service: service, name: name, ttl: ttl,
		patient: &wire.Patient{Addr: addr, Name: name, Pause: retryPause, Limit: attemptMax}}
}

// register begins a life: a first one, or a successor's.
func (m *member) register(ctx context.Context) error {
	body, err := json.Marshal(api.RegisterInstance{Service: m.service, Name: m.name, LeaseTTLMs: uint64(m.ttl.Milliseconds())})
	if err != nil {
		return err
	}
	answer, err := m.patient.Post(ctx, "/v1/instances", body)
	if err != nil {
		return err
	}
	var got api.Registered
	if err := json.Unmarshal(answer, &got); err != nil {
		return err
	}
	m.id, m.incarnation, m.index, m.seq = got.ID, got.Incarnation, 0, 0
	return nil
}

// ready answers the revision that it made.
func (m *member) ready(ctx context.Context) (revision uint64, err error) {
	if _, err := m.say(ctx, "ready", ""); err != nil {
		return 0, err
	}
	text, _ := m.patient.Field("quiesce-index")
	return strconv.ParseUint(text, 10, 64)
}

// stop goes through the drain that was granted, with some time in which an application would end its work.
func (m *member) stop(ctx context.Context, work time.Duration) error {
	m.seq++
	if _, err := m.say(ctx, "phase", fmt.Sprintf(`,"phase":"lameduck","seq":%d`, m.seq)); err != nil {
		return err
	}
	if err := rest(ctx, work); err != nil {
		return err
	}
	if _, err := m.say(ctx, "drained", ""); err != nil {
		return err
	}
	_, err := m.say(ctx, "left", "")
	return err
}

func (m *member) say(ctx context.Context, what, more string) ([]byte, error) {
	m.body = fmt.Appendf(m.body[:0], `{"incarnation":%d%s}`, m.incarnation, more)
	return m.patient.Post(ctx, "/v1/instances/"+m.id+"/"+what, m.body)
}

// keepalive renews the lease, and waits for news for some time.
func (m *member) keepalive(ctx context.Context, wait time.Duration) (api.InstanceLease, error) {
	m.body = fmt.Appendf(m.body[:0], `{"incarnation":%d,"after":%d,"wait_ms":%d}`, m.incarnation, m.index, wait.Milliseconds())
	answer, err := m.patient.PostUnkeyed(ctx, "/v1/instances/"+m.id+"/keepalive", m.body)
	if err != nil {
		return api.InstanceLease{}, err
	}
	var got api.InstanceLease
	err = json.Unmarshal(answer, &got)
	m.index = got.Index
	return got, err
}

// Declare declares the service of a fleet: so many of it may be out of service, and one that is ready counts at once.
func Declare(ctx context.Context, addr, run, service string, maxUnavailable int) error {
	p := &wire.Patient{Addr: addr, Name: run + "-declare", Pause: retryPause, Limit: attemptMax}
	defer p.Close()
	settle := uint64(0)
	body, err := json.Marshal(api.PutService{MaxUnavailable: uint32(maxUnavailable), SettleMs: &settle})
	if err != nil {
		return err
	}
	_, err = p.Send(ctx, http.MethodPut, "/v1/services/"+service, body)
	return err
}

func rest(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
