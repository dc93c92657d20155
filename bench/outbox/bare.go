package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/quiescehq/quiesce/bench/load"
	"github.com/quiescehq/quiesce/bench/process"
	"github.com/quiescehq/quiesce/bench/system"
)

const (
	bareReadyMax = 30 * time.Second
	bareRunMax   = time.Minute
)

var errBare = errors.New("bare raft")

// bareCluster is raft alone, in as many processes as a cluster has: this program, executed again for each.
type bareCluster struct {
	members  []*process.Process
	controls []string
	http     *http.Client
}

func startBare(ctx context.Context, dir string) (_ *bareCluster, err error) {
	c := &bareCluster{http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	addrs, err := freeAddrs(2 * system.Members)
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	c.controls = addrs[:system.Members]
	var peers []string
	for i := range system.Members {
		peers = append(peers, fmt.Sprintf("b%d=%s", i+1, addrs[system.Members+i]))
	}
	for i := range system.Members {
		id := fmt.Sprintf("b%d", i+1)
		p, err := process.Start(process.Spec{Path: self, Log: filepath.Join(dir, id+".log"),
			Args: []string{bareCommand, "-id", id, "-dir", filepath.Join(dir, id), "-control", c.controls[i], "-peers", strings.Join(peers, ",")}})
		if err != nil {
			return nil, err
		}
		c.members = append(c.members, p)
	}
	return c, c.awaitLeader(ctx)
}

// freeAddrs are held together while they are chosen, so that they differ.
func freeAddrs(n int) (addrs []string, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }()
		addrs = append(addrs, l.Addr().String())
	}
	return addrs, nil
}

func (c *bareCluster) pids() (out []int) {
	for _, p := range c.members {
		out = append(out, p.PID())
	}
	return out
}

// Close ends the members.
func (c *bareCluster) Close() error {
	var errs []error
	for _, p := range slices.Backward(c.members) {
		errs = append(errs, p.Kill())
	}
	return errors.Join(errs...)
}

func (c *bareCluster) awaitLeader(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bareReadyMax)
	defer cancel()
	for {
		_, err := c.leader(ctx)
		if err == nil {
			return nil
		}
		for _, p := range c.members {
			select {
			case <-p.Ended():
				return fmt.Errorf("%w: a member ended:\n%s", errBare, p.Tail())
			default:
			}
		}
		if over := wait(ctx, pollEvery); over != nil {
			return errors.Join(over, err)
		}
	}
}

func (c *bareCluster) leader(ctx context.Context) (control string, err error) {
	for _, control := range c.controls {
		if err = c.call(ctx, http.MethodGet, control, "/leader", nil, nil); err == nil {
			return control, nil
		}
	}
	return "", fmt.Errorf("%w: nobody leads: %w", errBare, err)
}

// run has the leader commit entries.
func (c *bareCluster) run(ctx context.Context, r bareRun) (s load.Sample, err error) {
	control, err := c.leader(ctx)
	if err != nil {
		return s, err
	}
	ctx, cancel := context.WithTimeout(ctx, bareRunMax+r.Loop.Warm+r.Loop.Measure)
	defer cancel()
	err = c.call(ctx, http.MethodPost, control, "/run", r, &s)
	return s, err
}

func (c *bareCluster) call(ctx context.Context, method, addr, path string, body, answer any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+addr+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	told, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return err
	case response.StatusCode != http.StatusOK:
		return fmt.Errorf("%w: %s: %d: %s", errBare, path, response.StatusCode, told)
	case answer != nil:
		return json.Unmarshal(told, answer)
	}
	return nil
}
