package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gin-gonic/gin"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

// refusal is an api.Problem on its way out: an error that knows its status and headers.
type refusal struct{ api.Problem }

// retryAfterMs tells for which codes, and when, it helps to send again.
var retryAfterMs = map[api.Code]uint64{
	api.CodeNotApplied: 50, api.CodeNoLeader: 200, api.CodeDraining: 50, api.CodeNotReady: 1_000,
	api.CodeSourceUnreachable: 1_000, api.CodeTargetUnreachable: 1_000, api.CodeOutcomeUnknown: 200,
	api.CodeKeysOutstanding: 1_000, api.CodeSessionsFull: 1_000, api.CodeLocksFull: 1_000, api.CodeTicketsFull: 1_000,
	api.CodeServicesFull: 10_000, api.CodeInstancesFull: 10_000, api.CodeMappingsFull: 10_000, api.CodePlansFull: 10_000, api.CodeCleanupsFull: 10_000, api.CodeOutboxFull: 1_000, api.CodePausesFull: 10_000,
}

func problem(code api.Code, detail string) *refusal {
	m, known := api.Meanings[code]
	if !known {
		code, m = api.CodeInternal, api.Meanings[api.CodeInternal]
	}
	return &refusal{api.Problem{Type: "urn:quiesce:problem:" + string(code), Title: m.Title, Status: m.Status, Detail: detail, Code: code,
		RetryAfterMs: retryAfterMs[code]}}
}

func invalid(field, reason string) *refusal {
	p := problem(api.CodeInvalid, field+": "+reason)
	p.Faults = []api.Fault{{Field: field, Reason: reason}}
	return p
}

func overLimit(code api.Code, detail string, limit uint64) *refusal {
	p := problem(code, detail)
	p.Limit = limit
	return p
}

// GetStatus, GetHeaders and ContentType are how huma asks.
func (p *refusal) GetStatus() int            { return p.Status }
func (p *refusal) Error() string             { return p.Problem.Error() }
func (p *refusal) ContentType(string) string { return api.ContentProblem }

func (p *refusal) GetHeaders() http.Header {
	h := http.Header{}
	if p.RetryAfterMs > 0 {
		h.Set(api.HeaderRetryAfter, strconv.FormatUint((p.RetryAfterMs+999)/1_000, 10))
	}
	if p.Index > 0 {
		h.Set(api.HeaderIndex, strconv.FormatUint(p.Index, 10))
	}
	return h
}

// write answers outside of huma: in middleware and for the router's own refusals.
func (p *refusal) write(c *gin.Context) {
	c.Abort()
	p.writeTo(c.Writer)
}

func (p *refusal) writeTo(w http.ResponseWriter) {
	body, err := json.Marshal(p.Problem)
	if err != nil {
		panic(err) // strings and numbers only
	}
	for name, values := range p.GetHeaders() {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Type", api.ContentProblem)
	w.WriteHeader(p.Status)
	_, _ = w.Write(append(body, '\n')) // a client that is gone needs no answer
}

// refusedBy turns a refusal of the state into a problem.
func refusedBy(r fsm.Result) *refusal {
	p := problem(api.Code(r.Code), r.Detail)
	p.Index = r.Index
	if r.Lock != nil {
		p.Holder = r.Lock.Holder
		if p.Holder != "" {
			p.Token = r.Lock.Token
		}
		p.Blockers, p.Limit = r.Lock.Names, r.Lock.Limit
	}
	if r.Instance != nil {
		for _, b := range r.Instance.Blockers {
			p.Blockers = append(p.Blockers, b.ID)
		}
	}
	if r.Cleanup != nil {
		p.Blockers = r.Cleanup.Services
	}
	return p
}

// outcomeOf says what an error of a Replica means for a request that wanted to change something.
func outcomeOf(err error) *refusal {
	var refused *RefusedError
	switch {
	case errors.As(err, &refused):
		if _, known := api.Meanings[api.Code(refused.Code)]; known {
			return problem(api.Code(refused.Code), refused.Detail)
		}
		return problem(api.CodeUnsafe, refused.Detail)
	case errors.Is(err, ErrNoLeader):
		return problem(api.CodeNoLeader, "nothing was applied: the cluster has no leader at the moment")
	case errors.Is(err, ErrNotApplied):
		return problem(api.CodeNotApplied, "nothing was applied: send the request again")
	}
	return problem(api.CodeOutcomeUnknown, "send the request again with the same idempotency key to learn what became of it")
}

// unread says what an error means for a request that wanted nothing but to look: it can always be sent again.
func unread(err error) *refusal {
	if errors.Is(err, ErrNoLeader) {
		return problem(api.CodeNoLeader, "the cluster has no leader at the moment; consistency=stale answers from this node")
	}
	return problem(api.CodeNotApplied, "the leader could not prove that it leads: send the request again")
}

// unmapped turns an error of Mappings into a problem; code is what an *InvalidError means here.
func (s *Server) unmapped(ctx context.Context, err error, code api.Code) *refusal {
	var bad *InvalidError
	switch {
	case errors.As(err, &bad):
		p := problem(code, bad.Error())
		p.Faults = bad.Faults
		return p
	case errors.Is(err, ErrSourceUnreachable):
		return problem(api.CodeSourceUnreachable, err.Error())
	case errors.Is(err, ErrTargetUnreachable):
		return problem(api.CodeTargetUnreachable, err.Error())
	}
	return s.bug(ctx, err)
}

// humaStatus says which of our codes stands behind what huma refuses by itself.
var humaStatus = map[int]api.Code{
	http.StatusBadRequest:            api.CodeMalformed,
	http.StatusUnsupportedMediaType:  api.CodeMediaType,
	http.StatusRequestEntityTooLarge: api.CodeBodyTooLarge,
	http.StatusUnprocessableEntity:   api.CodeInvalid,
}

// transform turns the error bodies that huma makes into problems. They reach the writer as values, so there is no need to replace huma's
// package-wide constructor of errors.
func (s *Server) transform(ctx huma.Context, _ string, v any) (any, error) {
	switch e := v.(type) {
	case *refusal:
		return e.Problem, nil
	case *huma.ErrorModel:
		return s.fromHuma(ctx, e).Problem, nil
	}
	return v, nil
}

func (s *Server) fromHuma(ctx huma.Context, e *huma.ErrorModel) *refusal {
	code, known := humaStatus[e.Status]
	if !known {
		return s.bug(ctx.Context(), e)
	}
	detail := e.Detail
	p := problem(code, detail)
	for _, d := range e.Errors {
		if d != nil {
			p.Faults = append(p.Faults, api.Fault{Field: d.Location, Reason: d.Message})
		}
		if len(p.Faults) == faultsMax {
			break
		}
	}
	if len(p.Faults) > 0 {
		p.Detail = p.Faults[0].Field + ": " + p.Faults[0].Reason
	}
	return p
}

// faultsMax bounds how many faults of a request are told: one request of a megabyte can have a million.
const faultsMax = 32

// bug answers 500 with an id under which the log has the rest.
func (s *Server) bug(ctx context.Context, err error) *refusal {
	p := problem(api.CodeInternal, "")
	p.ID = randomID()
	s.log.ErrorContext(ctx, "request failed", "id", p.ID, "err", err)
	return p
}
