package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client"
)

func (c *cli) electionCommand() *cobra.Command {
	return group("election", "Look at elections", c.electionShow(), c.electionObserve())
}

func (c *cli) electionShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME",
		Short: "Show who leads, and how many would",
		Args:  takes(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var e api.Election
			if err := c.call(cmd.Context(), http.MethodGet, electionPath("", args[0]), nil, &e); err != nil {
				return err
			}
			return c.show(e, func(w io.Writer) { writeElection(w, e) })
		},
	}
}

func electionPath(what, name string) string {
	return "/v1/elections" + what + "?name=" + url.QueryEscape(name)
}

func writeElection(w io.Writer, e api.Election) {
	t := &table{}
	t.add("election", e.Name)
	if l := e.Leader; l != nil {
		t.add("leader", who(l.Session, l.Owner))
		t.add("value", l.Value)
		t.add("token", number(l.Token))
		t.add("lease", spanIf(l.LeaseRemainingMs))
	} else {
		t.add("leader", "nobody")
	}
	t.add("candidates", fmt.Sprint(e.Candidates))
	t.write(w)
}

func (c *cli) electionObserve() *cobra.Command {
	return &cobra.Command{
		Use:   "observe NAME",
		Short: "Print who leads, and each change, until interrupted",
		Long: `Print who leads, and each change, until interrupted. With -o json each is a line of JSON, with -o yaml a document. It goes on through the
loss of nodes and leaders of the cluster; of changes in quick succession the last is certain to be printed.`,
		Args: takes(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := c.client()
			if err != nil {
				return err
			}
			defer cl.Close()
			if _, err := cl.Leader(cmd.Context(), args[0]); err != nil { // observing would wait for a cluster that is not there
				return err
			}
			for leader, err := range cl.Observe(cmd.Context(), args[0]) {
				if err != nil {
					return err
				}
				if err := c.showChange(args[0], leader, time.Now()); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// showChange prints one change on one line, so that another program can read along.
func (c *cli) showChange(name string, leader client.Leader, at time.Time) error {
	e := api.Election{Index: leader.Index, Name: name, Candidates: leader.Candidates}
	if leader.Session != "" {
		e.Leader = &api.Leader{Session: leader.Session, Owner: leader.Owner, Token: leader.Token, Value: leader.Value}
	}
	text := "nobody leads"
	if e.Leader != nil {
		text = fmt.Sprintf("%s leads with token %d", who(e.Leader.Session, e.Leader.Owner), e.Leader.Token)
		if e.Leader.Value != "" {
			text += ": " + e.Leader.Value
		}
	}
	return c.showLine(e, at.Format(time.TimeOnly)+"  "+text)
}
