package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/quiescehq/quiesce/api"
)

func (c *cli) sessionCommand() *cobra.Command {
	return group("session", "See to sessions, the leases that locks belong to", c.sessionLs(), c.sessionShow(), c.sessionClose())
}

func (c *cli) sessionLs() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the open sessions",
		Args:  takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			sessions := api.Sessions{Sessions: []api.Session{}}
			more, err := c.pages(cmd.Context(), "/v1/sessions", url.Values{}, all, func(get func(any) error) (api.Page, error) {
				var page api.Sessions
				err := get(&page)
				sessions.Page, sessions.Sessions = page.Page, append(sessions.Sessions, page.Sessions...)
				return page.Page, err
			})
			if err != nil {
				return err
			}
			defer c.hint(more)
			return c.show(sessions, func(w io.Writer) { sessionTable(sessions.Sessions).write(w) })
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "all of them, not only the first page")
	return cmd
}

func sessionTable(sessions []api.Session) *table {
	t := &table{head: []string{"SESSION", "NAME", "TTL", "LEASE", "LOCKS", "WAITS", "INSTANCE"}}
	for _, s := range sessions {
		t.add(s.ID, s.Name, span(s.TTLMs), spanIf(s.RemainingMs), number(s.Locks), number(s.Waits), s.Instance)
	}
	return t
}

func (c *cli) sessionShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show one session",
		Args:  takes(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var s api.Session
			if err := c.call(cmd.Context(), http.MethodGet, sessionPath(args[0]), nil, &s); err != nil {
				return err
			}
			return c.show(s, func(w io.Writer) { sessionTable([]api.Session{s}).write(w) })
		},
	}
}

func (c *cli) sessionClose() *cobra.Command {
	return &cobra.Command{
		Use:   "close ID",
		Short: "End a session, and with it all that it holds and waits for",
		Args:  takes(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.call(cmd.Context(), http.MethodDelete, sessionPath(args[0]), nil, nil); err != nil {
				return err
			}
			return c.done("session %s is closed", args[0])
		},
	}
}

func sessionPath(id string) string { return "/v1/sessions/" + url.PathEscape(id) }

// done tells a person that it is done. A program sees the exit code.
func (c *cli) done(format string, args ...any) error {
	if c.format == formatTable {
		fmt.Fprintln(c.out, plain(fmt.Sprintf(format, args...)))
	}
	return nil
}
