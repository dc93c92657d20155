package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quiescehq/quiesce/api"
)

func (c *cli) transactionsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "transactions",
		Short: "List the transactions that have been open for too long, and what is to become of them",
		Args:  wantsCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var found api.Transactions
			if err := c.call(cmd.Context(), http.MethodGet, "/v1/transactions", nil, &found); err != nil {
				return err
			}
			return c.show(found, func(w io.Writer) { writeTransactions(w, found) })
		},
	}
	cmd.AddCommand(c.transactionsKill())
	return cmd
}

func writeTransactions(w io.Writer, found api.Transactions) {
	if len(found.Transactions) == 0 {
		fmt.Fprintln(w, "no long transactions")
	} else {
		transactionTable(found.Transactions).write(w)
	}
	if len(found.Sources) > 0 {
		fmt.Fprintln(w)
		watchTable(found.Sources).write(w)
	}
}

func transactionTable(transactions []api.Transaction) *table {
	t := &table{head: []string{"TRANSACTION", "AGE", "STATE", "USER", "INSTANCE", "MODIFIED", "LOCKED", "STATEMENT", "VERDICT"}}
	for _, x := range transactions {
		state := x.State
		if x.Killed {
			state += ", killed"
		} else if x.Command == "Sleep" {
			state += ", idle"
		}
		instance := x.InstanceName
		if instance == "" {
			instance = x.Instance
		}
		t.add(x.ID, span(x.AgeMs), state, strings.Trim(x.User+"@"+x.Host, "@"), instance, number(x.RowsModified), number(x.RowsLocked), x.Statement, x.Verdict)
	}
	return t
}

func watchTable(sources []api.TransactionSource) *table {
	t := &table{head: []string{"SOURCE", "POLICY", "THRESHOLD", "READ", "KILLED", "REMARKS"}}
	for _, s := range sources {
		var remarks []string
		if !s.Reachable {
			remarks = append(remarks, "cannot be reached")
		}
		if len(s.Missing) > 0 {
			remarks = append(remarks, "the account lacks "+strings.Join(s.Missing, ", "))
		}
		if s.Detail != "" {
			remarks = append(remarks, s.Detail)
		}
		read := ""
		if s.SeenAgeMs > 0 {
			read = span(s.SeenAgeMs) + " ago"
		}
		t.add(s.Source, s.Policy, span(s.ThresholdMs), read, number(s.Killed), strings.Join(remarks, "; "))
	}
	return t
}

func (c *cli) transactionsKill() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "kill ID --reason TEXT",
		Short: "End the connection of a transaction, which the server then rolls back",
		Long: `End the connection of a transaction, if it is still that transaction. The server rolls it back, which can take as long as what it did;
"quiesce transactions" shows it to the end.`,
		Args: takes(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" {
				return usage("kill needs a --reason: it goes into the audit")
			}
			var verdict api.KillVerdict
			if err := c.post(cmd.Context(), "/v1/transactions/"+url.PathEscape(args[0])+"/kill", api.KillTransaction{Reason: reason}, &verdict); err != nil {
				return err
			}
			if !verdict.Killed {
				return errors.New("not killed: " + verdict.Detail)
			}
			return c.show(verdict, func(w io.Writer) { fmt.Fprintln(w, plain(strings.TrimSuffix("killed: "+verdict.Detail, ": "))) })
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why: it goes into the audit")
	return cmd
}
