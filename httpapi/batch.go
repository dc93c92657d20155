package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

// batchable is an operation of any body and answer.
type batchable interface {
	planOp(ctx context.Context, o api.BatchOp) (fsm.Op, error)
	result(r fsm.Result) api.BatchResult
}

// batch puts its operations into one entry: an unknown outcome is that of all of them. What is refused before, by the edge, is not part of
// the entry and says so in its own result.
func (s *Server) batch(ctx context.Context, in *withBody[api.Batch]) (*answer[api.BatchAnswer], error) {
	if in.Key != "" || in.Acked != 0 {
		return nil, invalid("header."+api.HeaderIdempotencyKey, "each operation of a batch has its own key")
	}
	results, err := s.applyBatch(ctx, in.Body.Ops, s.planBatchOp)
	if err != nil {
		return nil, err
	}
	out := &answer[api.BatchAnswer]{Status: http.StatusOK, Body: api.BatchAnswer{Results: make([]api.BatchResult, len(results))}}
	for i, r := range results {
		out.Body.Results[i] = s.batchResult(in.Body.Ops[i].Op, r)
		out.Index = max(out.Index, r.index())
	}
	return out, nil
}

// opResult is what became of one operation: the edge refused it, or the state answered.
type opResult struct {
	refused *refusal
	applied fsm.Result
}

func (r opResult) index() uint64 { return r.applied.Index }

func (s *Server) batchResult(op string, r opResult) api.BatchResult {
	if r.refused != nil {
		return api.BatchResult{Status: r.refused.Status, Index: r.refused.Index, Problem: &r.refused.Problem}
	}
	return s.ops[op].result(r.applied)
}

// applyBatch plans the operations and proposes in one entry what can be. An error is that of all of them.
func (s *Server) applyBatch(ctx context.Context, batch []api.BatchOp, plan func(context.Context, api.BatchOp) (fsm.Op, error)) ([]opResult, error) {
	results := make([]opResult, len(batch))
	ops, places := make([]fsm.Op, 0, len(batch)), make([]int, 0, len(batch))
	for i, o := range batch {
		op, err := plan(ctx, o)
		if err != nil {
			results[i].refused = s.refusalOf(ctx, err)
			continue
		}
		ops, places = append(ops, op), append(places, i)
	}
	if len(ops) == 0 {
		return results, nil
	}
	// The claims come last: results stand in the order of the ops.
	for _, op := range ops {
		if len(ops) < fsm.EntryOpsMax/2 {
			ops = append(ops, s.escort(op.Command)...)
		}
	}
	applied, err := s.rep.Propose(ctx, ops...)
	if err != nil {
		return nil, outcomeOf(err)
	}
	for n, i := range places {
		results[i].applied = applied[n]
	}
	return results, nil
}

func (s *Server) planBatchOp(ctx context.Context, o api.BatchOp) (fsm.Op, error) {
	known, ok := s.ops[o.Op]
	if !ok {
		return fsm.Op{}, invalid("op", "unknown operation")
	}
	return known.planOp(ctx, o)
}

func (s *Server) refusalOf(ctx context.Context, err error) *refusal {
	var p *refusal
	if !errors.As(err, &p) {
		p = s.bug(ctx, err)
	}
	return p
}

func (o operation[B, A]) planOp(ctx context.Context, b api.BatchOp) (fsm.Op, error) {
	key, p := Keyed{Key: b.Key, Acked: b.Acked}.stateKey(batchFingerprint(b))
	if p != nil {
		return fsm.Op{}, p
	}
	c := call[B]{subject: b.ID, ifMatch: b.IfMatch, body: new(B)}
	if p := o.checkSubject(b.ID); p != nil {
		return fsm.Op{}, p
	}
	if p := o.decode(b.Body, c.body); p != nil {
		return fsm.Op{}, p
	}
	command, err := o.plan(ctx, c)
	if err != nil {
		return fsm.Op{}, err
	}
	return fsm.Op{Command: command, Key: key}, nil
}

func batchFingerprint(b api.BatchOp) uint64 {
	if b.Key == "" {
		return 0
	}
	return fingerprint(b.Body, b.Op, b.ID, strconv.FormatUint(b.IfMatch, 10))
}

// checkSubject does for a batch what the path does for an endpoint.
func (o operation[B, A]) checkSubject(id string) *refusal {
	switch o.subject {
	case "name":
		return checkSlug("id", id)
	case "id":
		if id == "" {
			return invalid("id", "is needed")
		}
		return checkID("id", id)
	}
	if id != "" {
		return invalid("id", "this operation has none")
	}
	return nil
}

// decode checks a body by the same schema by which the endpoint's is checked.
func (o operation[B, A]) decode(body json.RawMessage, into *B) *refusal {
	if _, bodyless := any(into).(*nothing); bodyless {
		if len(body) != 0 {
			return invalid("body", "this operation has none")
		}
		return nil
	}
	if len(body) == 0 {
		return problem(api.CodeMalformed, "body: is needed")
	}
	var loose any
	if err := json.Unmarshal(body, &loose); err != nil {
		return problem(api.CodeMalformed, "body: "+err.Error())
	}
	found := &huma.ValidateResult{}
	path := huma.NewPathBuffer([]byte("body"), len("body"))
	huma.Validate(o.s.schemas(), o.schema, path, huma.ModeWriteToServer, loose, found)
	if len(found.Errors) > 0 {
		return faulty(found.Errors)
	}
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(into); err != nil {
		return invalid("body", err.Error())
	}
	return nil
}

func faulty(errs []error) *refusal {
	p := problem(api.CodeInvalid, "")
	for _, err := range errs[:min(len(errs), faultsMax)] {
		var d *huma.ErrorDetail
		if errors.As(err, &d) {
			p.Faults = append(p.Faults, api.Fault{Field: d.Location, Reason: d.Message})
		}
	}
	if len(p.Faults) > 0 {
		p.Detail = p.Faults[0].Field + ": " + p.Faults[0].Reason
	}
	return p
}

func (o operation[B, A]) result(r fsm.Result) api.BatchResult {
	if r.Refused() {
		p := refusedBy(r)
		return api.BatchResult{Status: p.Status, Index: r.Index, Problem: &p.Problem}
	}
	if o.answer == nil {
		return api.BatchResult{Status: http.StatusNoContent, Index: r.Index}
	}
	body, status := o.answer(r)
	return api.BatchResult{Status: status, Index: r.Index, Body: raw(body)}
}

// withBatch fills in what an operation needs in batches and registers it for them.
func (o operation[B, A]) withBatch(path string) operation[B, A] {
	switch {
	case strings.Contains(path, "{name}"):
		o.subject = "name"
	case strings.Contains(path, "{id}"):
		o.subject = "id"
	}
	o.schema = o.s.schemas().Schema(reflect.TypeFor[B](), true, o.name)
	o.s.ops[o.name] = o
	return o
}
