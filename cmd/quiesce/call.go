package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/quiescehq/quiesce/api"
)

// pagesMax bounds --all: a million rows.
const pagesMax = 1_000

// call asks the cluster once, in the client's sense.
func (c *cli) call(ctx context.Context, method, path string, body, answer any) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, 2*c.timeout) // the client gives up first, and knows better why
	defer cancel()
	return cl.Call(ctx, method, path, body, answer)
}

func (c *cli) post(ctx context.Context, path string, body, answer any) error {
	return c.call(ctx, http.MethodPost, path, body, answer)
}

// pages reads one page of a collection, or all. It tells whether there are more.
func (c *cli) pages(ctx context.Context, path string, query url.Values, all bool, read func(get func(any) error) (api.Page, error)) (bool, error) {
	if all {
		query.Set("limit", fmt.Sprint(api.PageMax))
	}
	for range pagesMax {
		page, err := read(func(answer any) error {
			return c.call(ctx, http.MethodGet, withQuery(path, query), nil, answer)
		})
		if err != nil || page.Cursor == "" {
			return false, err
		}
		if !all {
			return true, nil
		}
		query.Set("cursor", page.Cursor)
	}
	return true, nil
}

func withQuery(path string, query url.Values) string {
	if len(query) == 0 {
		return path
	}
	return path + "?" + query.Encode()
}

// hint tells a person that the list goes on. A program sees the cursor.
func (c *cli) hint(more bool) {
	if more && c.format == formatTable {
		fmt.Fprintln(c.err, "quiesce: there are more; --all shows them")
	}
}
