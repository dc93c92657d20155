package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humagin"
	"github.com/gin-gonic/gin"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

// The two generic edges: operation for what changes the state by one command, item and collection (read.go) for what looks at it.

// operation is a mutating operation that becomes one command in the log. Its endpoint and its place in a batch share it.
// B is the body, nothing when there is none.
type operation[B, A any] struct {
	s      *Server
	name   string // in batches; also the OpenAPI operation id
	plan   func(ctx context.Context, c call[B]) (fsm.Command, error)
	answer func(r fsm.Result) (A, int) // nil: 204

	// Filled in by withBatch.
	subject string // which path parameter there is
	schema  *huma.Schema
}

// call is one request of an operation.
type call[B any] struct {
	subject string // what the path names
	ifMatch uint64 // 0: no precondition
	body    *B
}

type nothing struct{}

type withBody[B any] struct {
	Keyed
	Body B
}

type withoutBody struct{ Keyed }

type answer[A any] struct {
	Status int
	Index  uint64 `header:"Quiesce-Index"`
	ETag   string `header:"ETag"`
	Body   A
}

type noContent struct {
	Index uint64 `header:"Quiesce-Index"`
}

// endpoint registers an operation under a path and for batches.
func endpoint[B, A any](method, path string, o operation[B, A]) {
	s, spec := o.s, o.s.spec(method, path, o.name)
	o = o.withBatch(path)
	_, bodyless := any(new(B)).(*nothing)
	switch {
	case bodyless && o.answer != nil:
		huma.Register(s.huma, spec, func(ctx context.Context, in *withoutBody) (*answer[A], error) {
			return o.answered(o.run(ctx, in.Keyed, nil))
		})
	case bodyless:
		huma.Register(s.huma, spec, func(ctx context.Context, in *withoutBody) (*noContent, error) {
			r, err := o.run(ctx, in.Keyed, nil)
			return &noContent{r.Index}, err
		})
	case o.answer == nil:
		huma.Register(s.huma, spec, func(ctx context.Context, in *withBody[B]) (*noContent, error) {
			r, err := o.run(ctx, in.Keyed, &in.Body)
			return &noContent{r.Index}, err
		})
	default:
		huma.Register(s.huma, spec, func(ctx context.Context, in *withBody[B]) (*answer[A], error) {
			return o.answered(o.run(ctx, in.Keyed, &in.Body))
		})
	}
}

func (o operation[B, A]) answered(r fsm.Result, err error) (*answer[A], error) {
	if err != nil {
		return nil, err
	}
	out := &answer[A]{Index: r.Index}
	out.Body, out.Status = o.answer(r)
	return out, nil
}

// plain registers what is neither one command nor a read of the state.
func plain[I, O any](s *Server, method, path, id string, handler func(context.Context, *I) (*O, error)) {
	huma.Register(s.huma, s.spec(method, path, id), handler)
}

func (o operation[B, A]) run(ctx context.Context, k Keyed, body *B) (fsm.Result, error) {
	x := exchangeOf(ctx)
	c := call[B]{body: body}
	var p *refusal
	if c.subject, p = x.subject(); p != nil {
		return fsm.Result{}, p
	}
	if c.ifMatch, p = x.ifMatch(); p != nil {
		return fsm.Result{}, p
	}
	key, p := k.stateKey(x.fingerprint())
	if p != nil {
		return fsm.Result{}, p
	}
	command, err := o.plan(ctx, c)
	if err != nil {
		return fsm.Result{}, err
	}
	return o.s.propose(ctx, fsm.Op{Command: command, Key: key})
}

// propose gives one op to the replica. Refusals of the state come back as errors.
func (s *Server) propose(ctx context.Context, op fsm.Op) (fsm.Result, error) {
	results, err := s.rep.Propose(ctx, append([]fsm.Op{op}, s.escort(op.Command)...)...)
	if err != nil {
		return fsm.Result{}, outcomeOf(err)
	}
	if results[0].Refused() {
		return results[0], refusedBy(results[0])
	}
	return results[0], nil
}

// exchange is the request beside what huma decodes.
type exchange struct{ gin *gin.Context }

type exchangeKey struct{}

func (s *Server) exchange(ctx huma.Context, next func(huma.Context)) {
	next(huma.WithValue(ctx, exchangeKey{}, exchange{humagin.Unwrap(ctx)}))
}

func exchangeOf(ctx context.Context) exchange { return ctx.Value(exchangeKey{}).(exchange) }

func (x exchange) fingerprint() uint64 {
	r := x.gin.Request
	return fingerprint(rawBody(x.gin), r.Method, r.URL.EscapedPath(), r.Header.Get(api.HeaderIfMatch))
}

var slug = regexp.MustCompile(api.Slug)

// subject is what the path names: a service or mapping by name, anything else by id.
func (x exchange) subject() (string, *refusal) {
	if name := x.gin.Param("name"); name != "" {
		return name, checkSlug("path.name", name)
	}
	id := x.gin.Param("id")
	return id, checkID("path.id", id)
}

func checkSlug(field, name string) *refusal {
	if !slug.MatchString(name) {
		return invalid(field, "must match "+api.Slug)
	}
	return nil
}

func checkID(field, id string) *refusal {
	if len(id) > api.IDBytesMax || strings.ContainsFunc(id, notVisible) {
		return invalid(field, "at most 64 visible ASCII characters")
	}
	return nil
}

// ifMatch reads the version that the caller has seen, plain or as an entity tag. No header is no precondition.
func (x exchange) ifMatch() (uint64, *refusal) {
	text := x.gin.GetHeader(api.HeaderIfMatch)
	if text == "" {
		return 0, nil
	}
	version, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimPrefix(text, `"`), `"`), 10, 64)
	if err != nil || version == 0 || version > api.TokenMax {
		return 0, invalid("header."+api.HeaderIfMatch, "must be a version, such as \"3\"")
	}
	return version, nil
}

func etag(version uint64) string { return strconv.Quote(strconv.FormatUint(version, 10)) }

// spec describes a route to huma: path parameters and the problem that any of them may answer.
func (s *Server) spec(method, path, id string) huma.Operation {
	op := huma.Operation{
		OperationID: id, Method: method, Path: path, Tags: []string{tag(path)},
		MaxBodyBytes: -1, BodyReadTimeout: -1, // the body has been read and bounded
		Responses: map[string]*huma.Response{"default": {
			Description: "Problem",
			Content:     map[string]*huma.MediaType{api.ContentProblem: {Schema: s.problemSchema()}},
		}},
	}
	longest := api.IDBytesMax
	if strings.Contains(path, "{id}") {
		op.Parameters = append(op.Parameters, pathParam("id", &huma.Schema{Type: huma.TypeString, MaxLength: &longest}))
	}
	if strings.Contains(path, "{name}") {
		op.Parameters = append(op.Parameters, pathParam("name", &huma.Schema{Type: huma.TypeString, Pattern: api.Slug}))
		if method != http.MethodGet {
			op.Parameters = append(op.Parameters, &huma.Param{Name: api.HeaderIfMatch, In: "header",
				Description: "The version that must still be the present one", Schema: &huma.Schema{Type: huma.TypeString}})
		}
	}
	return op
}

func pathParam(name string, schema *huma.Schema) *huma.Param {
	return &huma.Param{Name: name, In: "path", Required: true, Schema: schema}
}

// tag groups routes as the API's own page does.
func tag(path string) string {
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	if len(parts) > 1 && parts[0] == "v1" {
		return parts[1]
	}
	return "health"
}

func raw(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // shapes of package api only
	}
	return b
}
