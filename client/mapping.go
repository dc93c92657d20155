package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/quiescehq/quiesce/api"
)

// DeclareMapping makes sure that a mapping is what spec says, and gives its revision. The spec is anything that encodes to the JSON of
// PUT /v1/mappings. A mapping that already is what spec says keeps its revision: each start of each instance declares it again.
func (c *Client) DeclareMapping(ctx context.Context, name string, spec any) (revision uint64, err error) {
	wanted, err := json.Marshal(spec)
	if err != nil {
		return 0, fmt.Errorf("declare mapping %s: %w", name, err)
	}
	path := "/v1/mappings/" + url.PathEscape(name)
	var present api.Mapping
	_, err = c.do(ctx, call{method: http.MethodGet, path: path, answer: &present})
	if err == nil && sameJSON(present.Spec, wanted) {
		return present.Revision, nil
	}
	if err != nil && !errors.Is(err, ErrMappingNotFound) {
		return 0, fmt.Errorf("declare mapping %s: %w", name, err)
	}
	var put api.MappingVersion
	if _, err := c.do(ctx, call{method: http.MethodPut, path: path, body: json.RawMessage(wanted), answer: &put, keyed: true}); err != nil {
		return 0, fmt.Errorf("declare mapping %s: %w", name, err)
	}
	return put.Revision, nil
}

// sameJSON compares but for space between the tokens. Fields in another order count as different: one more revision does no harm.
func sameJSON(a, b []byte) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}
