package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

// putMapping takes the specification as it comes: what is in it is known to package mapping, behind Mappings.
func (s *Server) putMapping() operation[json.RawMessage, api.MappingVersion] {
	return operation[json.RawMessage, api.MappingVersion]{s: s, name: api.OpPutMapping,
		plan: func(ctx context.Context, c call[json.RawMessage]) (fsm.Command, error) {
			spec := []byte(*c.body)
			if len(spec) > api.SpecBytesMax {
				return nil, overLimit(api.CodeMappingInvalid, fmt.Sprintf("the specification has %d bytes", len(spec)), api.SpecBytesMax)
			}
			checked, err := s.cfg.Mappings.Check(ctx, c.subject, spec)
			if err != nil {
				return nil, s.unmapped(ctx, err, api.CodeMappingInvalid)
			}
			return fsm.PutMapping{Name: c.subject, Source: checked.Source, Target: checked.Target, Table: checked.Table, Spec: spec,
				Columns: checked.Columns, IfRevision: c.ifMatch}, nil
		},
		answer: func(r fsm.Result) (api.MappingVersion, int) {
			return api.MappingVersion{Name: r.Mapping.Name, Revision: r.Mapping.Revision}, http.StatusOK
		},
	}
}

func (s *Server) deleteMapping() operation[nothing, nothing] {
	return operation[nothing, nothing]{s: s, name: api.OpDeleteMapping,
		plan: func(_ context.Context, c call[nothing]) (fsm.Command, error) {
			return fsm.DeleteMapping{Name: c.subject, IfRevision: c.ifMatch}, nil
		},
	}
}

func findMapping(v view, name string) (api.Mapping, uint64, fsm.Code) {
	m, ok := v.Mapping(name)
	if !ok {
		return api.Mapping{}, 0, fsm.CodeMappingNotFound
	}
	return mappingOf(v, m), m.Revision, ""
}

func listMappings(v view, _ *Listing, p *page) api.Mappings {
	out := api.Mappings{Mappings: []api.Mapping{}}
	v.Mappings(p.from(), func(m fsm.Mapping) bool {
		take, further := p.row(m.Name, true)
		if take {
			out.Mappings = append(out.Mappings, mappingOf(v, m))
		}
		return further
	})
	out.Page = p.head()
	return out
}

func mappingOf(v view, m fsm.Mapping) api.Mapping {
	return api.Mapping{Name: m.Name, Revision: m.Revision, Spec: m.Spec, Pending: v.Pending(m.Name), Dead: v.Dead(m.Name), Index: m.Index}
}
