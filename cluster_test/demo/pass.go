package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/quiescehq/quiesce/api"
)

const passLimit = 60 * time.Second

// runPass starts a pass over the orders and waits for its end.
func (c *cluster) runPass(ctx context.Context, name, mode string) (pass api.Pass, err error) {
	var started api.PassStarted
	header := http.Header{api.HeaderIdempotencyKey: {"demo-pass-" + name}}
	if err := c.ask(ctx, http.MethodPost, "/v1/passes", header, api.StartPass{Mapping: mappingName, PassOptions: api.PassOptions{Mode: mode}}, &started); err != nil {
		return pass, fmt.Errorf("start a pass: %w", err)
	}
	err = until(ctx, passLimit, func(ctx context.Context) string {
		if err := c.get(ctx, passPath(started.ID), &pass); err != nil {
			return err.Error()
		}
		if pass.State == "running" {
			return fmt.Sprintf("pass %d is at %q with %+v", pass.ID, pass.Cursor, pass.Counts)
		}
		return ""
	})
	if err == nil && pass.State != "done" {
		err = fmt.Errorf("%w: pass %d ended as %s: %s", errAnswer, pass.ID, pass.State, pass.Reason)
	}
	return pass, err
}

func passPath(id uint64) string { return "/v1/passes/" + strconv.FormatUint(id, 10) }

// differences lists the keys that a pass reported, sorted. Each pass of the demo finds fewer than are shown.
func (c *cluster) differences(ctx context.Context, id uint64) (stale, missing []string, err error) {
	var found api.Differences
	if err := c.get(ctx, passPath(id)+"/differences", &found); err != nil {
		return nil, nil, err
	}
	for _, d := range found.Differences {
		switch d.Class {
		case "stale":
			stale = append(stale, d.Key)
		case "missing":
			missing = append(missing, d.Key)
		}
	}
	slices.Sort(stale)
	slices.Sort(missing)
	return stale, missing, nil
}
