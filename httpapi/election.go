package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gin-gonic/gin"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

// An election is an exclusive lock with a value: these handlers only speak its words.

func asAcquire(b *api.Campaign) *api.AcquireLocks {
	out := &api.AcquireLocks{Session: b.Session, Owner: b.Owner, WaitMs: b.WaitMs, ClaimMs: b.ClaimMs, LockDelayMs: b.LockDelayMs, Value: b.Value, Ticket: b.Ticket}
	if b.Name != "" {
		out.Locks = []api.LockWanted{{Name: b.Name}}
	}
	return out
}

func (s *Server) campaign(ctx context.Context, in *withBody[api.Campaign]) (*answer[api.Acquired], error) {
	return s.acquire(ctx, &withBody[api.AcquireLocks]{Keyed: in.Keyed, Body: *asAcquire(&in.Body)})
}

func (s *Server) campaignOp() operation[api.Campaign, api.Acquired] {
	return operation[api.Campaign, api.Acquired]{s: s, name: api.OpCampaign, answer: s.acquired,
		plan: func(_ context.Context, c call[api.Campaign]) (fsm.Command, error) {
			if c.body.Ticket != 0 {
				return nil, invalid("body.ticket", "a candidacy is taken up again at /v1/elections/campaign")
			}
			return planAcquire(asAcquire(c.body))
		},
	}
}

func (s *Server) proclaim() operation[api.Proclaim, nothing] {
	return operation[api.Proclaim, nothing]{s: s, name: api.OpProclaim,
		plan: func(_ context.Context, c call[api.Proclaim]) (fsm.Command, error) {
			if p := checkOwnerAndValue("", c.body.Value); p != nil {
				return nil, p
			}
			return fsm.SetLockValue{Session: c.body.Session, Name: c.body.Name, Token: c.body.Token, Value: c.body.Value}, named("body.name", c.body.Name)
		},
	}
}

func (s *Server) resign() operation[api.Resign, nothing] {
	return operation[api.Resign, nothing]{s: s, name: api.OpResign,
		plan: func(_ context.Context, c call[api.Resign]) (fsm.Command, error) {
			b := c.body
			if b.To != "" {
				return fsm.HandOffLock{Session: b.Session, Name: b.Name, Token: b.Token, To: b.To}, named("body.name", b.Name)
			}
			return fsm.ReleaseLock{Session: b.Session, Locks: []fsm.HeldLock{{Name: b.Name, Token: b.Token}}}, named("body.name", b.Name)
		},
	}
}

type electionQuery struct {
	Consistent
	Name   string `query:"name" required:"true" minLength:"1" maxLength:"256"`
	Index  uint64 `query:"index" maximum:"9007199254740991" doc:"Long poll: answer when the election is newer than this, or wait_ms has passed"`
	WaitMs uint64 `query:"wait_ms" maximum:"60000"`
}

func (s *Server) getElection(ctx context.Context, in *electionQuery) (*answer[api.Election], error) {
	if p := checkName("query.name", in.Name); p != nil {
		return nil, p
	}
	if err := s.fresh(ctx, in.Consistency); err != nil {
		return nil, err
	}
	w := s.rep.Watch("locks", in.Name)
	defer w.Close()
	patience := time.NewTimer(time.Duration(in.WaitMs) * time.Millisecond)
	defer patience.Stop()
	for {
		e, changed := s.election(in.Name)
		if changed > in.Index || in.WaitMs == 0 {
			return s.electionAnswer(e), nil
		}
		select {
		case <-w.Wake():
			continue
		case <-patience.C:
		case <-s.draining:
		case <-ctx.Done():
		}
		return s.electionAnswer(e), nil
	}
}

func (s *Server) electionAnswer(e api.Election) *answer[api.Election] {
	if e.Leader != nil {
		e.Leader.LeaseRemainingMs, _ = s.rep.LeaseRemaining(e.Leader.Session)
	}
	return &answer[api.Election]{Status: http.StatusOK, Index: e.Index, Body: e}
}

// election tells how an election stands, and at which revision its leader or the value last changed: that of the present grant, or when
// nobody leads that of the last change of any lock, which is not earlier.
func (s *Server) election(name string) (e api.Election, changed uint64) {
	s.view(func(v view) {
		e = api.Election{Index: v.Revision(), Name: name, Candidates: v.Waiting(name)}
		changed = v.Modified("locks")
		v.Grants(name, func(g fsm.Grant) bool {
			e.Leader = &api.Leader{Session: g.Session, Owner: g.Owner, Token: g.Token, Value: g.Value}
			changed = g.Index
			return false
		})
	})
	return e, changed
}

const observePath = "/v1/elections/observe"

// observeSpec describes the one endpoint that does not answer JSON.
func (s *Server) observeSpec() *huma.Operation {
	op := s.spec(http.MethodGet, observePath, "elections.observe")
	one, longest := 1, api.NameBytesMax
	op.Parameters = []*huma.Param{
		{Name: "name", In: "query", Required: true, Schema: &huma.Schema{Type: huma.TypeString, MinLength: &one, MaxLength: &longest}},
		{Name: "consistency", In: "query", Description: "stale: from the state of whichever node is asked",
			Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{api.Linearizable, api.Stale}}},
	}
	op.Responses["200"] = &huma.Response{
		Description: "Events named leader, each an election, with the index as id: the present one first, then each change. Comments keep the connection alive.",
		Content:     map[string]*huma.MediaType{"text/event-stream": {Schema: s.schemas().Schema(reflect.TypeFor[api.Election](), true, "Election")}},
	}
	return &op
}

const (
	heartbeat  = 15 * time.Second
	streamsMax = 10_000 // of one node
)

// observe streams the leader of an election. It ends when this node stops, or leads no more: the next node goes on from the last id. The
// client need not have seen every change, only the last.
func (s *Server) observe(c *gin.Context) {
	name, stale := c.Query("name"), isStale(c.Request)
	if p := checkName("query.name", name); p != nil {
		p.write(c)
		return
	}
	if s.streams.Add(1) > streamsMax {
		s.streams.Add(-1)
		overLimit(api.CodeStreamsFull, "this node serves as many streams as it may", streamsMax).write(c)
		return
	}
	defer s.streams.Add(-1)
	if !stale {
		if err := s.fresh(c.Request.Context(), api.Linearizable); err != nil {
			err.(*refusal).write(c)
			return
		}
	}
	s.stream(c, name, stale)
}

func (s *Server) stream(c *gin.Context, name string, stale bool) {
	w := s.rep.Watch("locks", name)
	defer w.Close()
	out := events{c: c, rc: http.NewResponseController(c.Writer)}
	out.begin()
	beat, recheck := time.NewTicker(heartbeat), time.NewTicker(leadRecheck)
	defer beat.Stop()
	defer recheck.Stop()
	seen := ""
	for ok := true; ok; {
		e, _ := s.election(name)
		if now := leaderKey(e); now != seen {
			seen = now
			ok = out.send("leader", e.Index, e)
		}
		select {
		case <-w.Wake():
		case <-beat.C:
			ok = ok && out.comment()
		case <-recheck.C:
			ok = ok && (stale || s.rep.Leader().Self)
		case <-s.draining:
			return
		case <-c.Request.Context().Done():
			return
		}
	}
}

// leaderKey tells two states of an election apart that an observer wants to hear of.
func leaderKey(e api.Election) string {
	if e.Leader == nil {
		return "nobody"
	}
	return fmt.Sprintf("%d %s", e.Leader.Token, e.Leader.Value)
}

// events writes server-sent events. Each write has a deadline of its own: a stream has none as a whole.
type events struct {
	c  *gin.Context
	rc *http.ResponseController
}

func (o events) begin() {
	h := o.c.Writer.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no")
	o.c.Writer.WriteHeader(http.StatusOK)
	o.write("retry: 1000\n\n")
}

func (o events) send(event string, id uint64, data any) bool {
	body, err := json.Marshal(data)
	if err != nil {
		panic(err) // shapes of package api only
	}
	return o.write(fmt.Sprintf("event: %s\nid: %d\ndata: %s\n\n", event, id, body))
}

func (o events) comment() bool { return o.write(": alive\n\n") }

func (o events) write(text string) bool {
	_ = o.rc.SetWriteDeadline(time.Now().Add(eventWriteMax)) // recorders of tests have none
	if _, err := o.c.Writer.WriteString(text); err != nil {
		return false
	}
	return o.rc.Flush() == nil
}

const eventWriteMax = 10 * time.Second
