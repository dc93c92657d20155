package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client"
)

func (c *cli) lockDeadlocks() *cobra.Command {
	var a act
	var breakThem bool
	cmd := &cobra.Command{
		Use:   "deadlocks",
		Short: "List circles of waits, and break them",
		Long: `List the circles in which each waits for what the next one has. Each ends by itself when a wait in it ends. --break ends the youngest wait
of each circle, whose owner is told that it waited in vain.`,
		Args: takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if breakThem {
				if err := a.check("--break"); err != nil {
					return err
				}
			}
			var found api.Deadlocks
			if err := c.call(cmd.Context(), http.MethodGet, "/v1/locks/deadlocks", nil, &found); err != nil {
				return err
			}
			if err := c.show(found, func(w io.Writer) { writeDeadlocks(w, found) }); err != nil || !breakThem {
				return err
			}
			return c.breakCircles(cmd.Context(), found, a.reason)
		},
	}
	a.flags(cmd, c)
	cmd.Flags().BoolVar(&breakThem, "break", false, "cancel the youngest wait of each circle")
	return cmd
}

func writeDeadlocks(w io.Writer, found api.Deadlocks) {
	if len(found.Cycles) == 0 {
		fmt.Fprintln(w, "no circles")
	}
	for i, circle := range found.Cycles {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "circle %d\n", i+1)
		t := &table{}
		for _, wait := range circle.Waits {
			by := "held by " + wait.BlockedBy
			if wait.BlockedByTurn {
				by = "behind " + wait.BlockedBy
			}
			t.add("  "+who(wait.Session, wait.Owner), "waits for", wait.Name, by, fmt.Sprintf("ticket %d", wait.Ticket))
		}
		t.write(w)
	}
}

// breakCircles ends a wait once, though it may stand in several circles. One that is over already has broken its circle by itself.
func (c *cli) breakCircles(ctx context.Context, found api.Deadlocks, reason string) error {
	ended := map[uint64]bool{}
	var faults []error
	for _, circle := range found.Cycles {
		ticket := youngest(circle)
		if ended[ticket] {
			continue
		}
		ended[ticket] = true
		switch err := c.cancelWait(ctx, ticket, reason); {
		case isOver(err):
			fmt.Fprintf(c.err, "quiesce: ticket %d is over already\n", ticket)
		case err != nil:
			faults = append(faults, fmt.Errorf("ticket %d: %w", ticket, err))
		default:
			fmt.Fprintf(c.err, "quiesce: ticket %d is cancelled\n", ticket)
		}
	}
	return errors.Join(faults...)
}

// youngest is the ticket that was given last: the one that closed the circle, or that has waited least.
func youngest(circle api.Deadlock) uint64 {
	var ticket uint64
	for _, wait := range circle.Waits {
		ticket = max(ticket, wait.Ticket)
	}
	return ticket
}

func isOver(err error) bool {
	var refused *client.Error
	return errors.As(err, &refused) && (refused.Code == api.CodeTicketEnded || refused.Code == api.CodeTicketNotFound)
}
