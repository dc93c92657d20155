package main

import (
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quiescehq/quiesce/api"
)

func (c *cli) auditCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "List what operators did, newest first",
		Args:  takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			audit := api.Audit{Acts: []api.Act{}}
			more, err := c.pages(cmd.Context(), "/v1/audit", url.Values{}, all, func(get func(any) error) (api.Page, error) {
				var page api.Audit
				err := get(&page)
				audit.Page, audit.Acts = page.Page, append(audit.Acts, page.Acts...)
				return page.Page, err
			})
			if err != nil {
				return err
			}
			defer c.hint(more)
			return c.show(audit, func(w io.Writer) { actTable(audit.Acts).write(w) })
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "all that are kept, not only the first page")
	return cmd
}

func actTable(acts []api.Act) *table {
	t := &table{head: []string{"WHEN", "WHAT", "OF", "BY", "WHY", "DETAILS"}}
	for _, a := range acts {
		t.add(a.At.UTC().Format(time.RFC3339), a.Action, a.Subject, a.By, a.Reason, strings.Join(a.Details, "; "))
	}
	return t
}
