package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/mysql"
)

const (
	envDSN        = "QUIESCE_MYSQL_DSN"
	syncTimeout   = 2 * time.Minute // all statements of one command
	databaseShown = "shop"
)

func (c *cli) syncCommand() *cobra.Command {
	return group("sync", "Prepare a MySQL schema for events that its transactions write", c.syncTables(), c.syncTriggers())
}

func (c *cli) syncTables() *cobra.Command {
	database := databaseShown
	cmd := &cobra.Command{
		Use:   "tables",
		Short: "Print the quiesce tables of a business schema, and the grants of the accounts",
		Long: `Print the statements that make the tables quiesce_outbox, quiesce_refused and quiesce_fence in the business schema, and the grants of the
accounts that use them. Nodes never make tables: run the statements with an account that may. Taking them twice changes nothing.`,
		Args: takes(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			writeStatements(c.out, mysql.OutboxTables)
			fmt.Fprintln(c.out)
			writeStatements(c.out, mysql.OutboxGrants(database))
			return nil
		},
	}
	cmd.Flags().StringVar(&database, "database", databaseShown, "name of the business schema in the grants")
	return cmd
}

// writeStatements ends each with a semicolon, but comments.
func writeStatements(w io.Writer, statements []string) {
	for _, s := range statements {
		if !strings.HasPrefix(s, "--") {
			s += ";"
		}
		fmt.Fprintln(w, s)
	}
}

// triggersAsked is what the flags of sync triggers say.
type triggersAsked struct {
	dsn                      string
	apply, drop, everyUpdate bool
	tables                   bool // with drop
}

func (c *cli) syncTriggers() *cobra.Command {
	var asked triggersAsked
	cmd := &cobra.Command{
		Use:   "triggers MAPPING",
		Short: "Print, make or remove the triggers that write a mapping's outbox rows",
		Long: `Triggers tell changes that no application tells: manual statements and programs that cannot be changed. The cluster is asked for the mapping, and
the source's table for its columns, with a DSN of yours from --dsn, from $` + envDSN + `, or from the terminal. It is neither kept nor shown. What
stands in an argument can be seen in the list of processes: prefer the variable.

Without --apply or --drop the statements are printed and nothing is changed. --apply makes the tables first, then the triggers; those that are there and differ are
replaced, and no change is missed meanwhile. --drop removes the triggers; with --tables the tables too, if they are empty and no trigger writes to them any more. Whether
an application does cannot be seen: its transactions would fail.`,
		Example: `  quiesce sync triggers items
  quiesce sync triggers items --apply`,
		Args: takes(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if asked.apply && asked.drop {
				return usage("--apply and --drop do not go together")
			}
			if asked.tables && !asked.drop {
				return usage("--tables goes with --drop; --apply makes the tables anyway")
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), syncTimeout)
			defer cancel()
			return c.doTriggers(ctx, args[0], asked)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&asked.dsn, "dsn", "", "user:password@tcp(host:port)/schema, of an operator ($"+envDSN+")")
	flags.BoolVar(&asked.apply, "apply", false, "make the tables and the triggers")
	flags.BoolVar(&asked.drop, "drop", false, "remove the triggers")
	flags.BoolVar(&asked.tables, "tables", false, "with --drop: the tables too, if they are empty and no trigger is left")
	flags.BoolVar(&asked.everyUpdate, "every-update", false, "write a row for every UPDATE, not only where a column of the mapping changed")
	return cmd
}

func (c *cli) doTriggers(ctx context.Context, name string, asked triggersAsked) error {
	dsn, err := c.operatorDSN(asked.dsn)
	if err != nil {
		return err
	}
	schema, err := mysql.OpenSchema(mysql.Config{Name: "of this command", DSN: dsn})
	if err != nil {
		return usage("%w", err)
	}
	defer schema.Close()
	if asked.drop {
		return c.dropTriggers(ctx, schema, name, asked.tables) // the mapping may be gone
	}
	spec, err := c.triggerSpec(ctx, name)
	if err != nil {
		return err
	}
	spec.EveryUpdate = spec.EveryUpdate || asked.everyUpdate
	plan, err := schema.PlanTriggers(ctx, spec)
	if err != nil {
		return err
	}
	if asked.apply {
		return c.applyTriggers(ctx, schema, plan)
	}
	c.printTriggers(plan)
	return nil
}

// operatorDSN never shows what it gets.
func (c *cli) operatorDSN(given string) (string, error) {
	if given != "" {
		return given, nil
	}
	if dsn := c.getenv(envDSN); dsn != "" {
		return dsn, nil
	}
	dsn, err := askSecretly(c.err, "DSN, user:password@tcp(host:port)/schema: ")
	if err != nil || dsn == "" {
		return "", usage("sync triggers needs a DSN: --dsn, $%s, or a terminal to type it", envDSN)
	}
	return dsn, nil
}

// askSecretly reads a line from the terminal without showing it.
func askSecretly(prompt io.Writer, text string) (string, error) {
	fd := int(os.Stdin.Fd())
	before, err := unix.IoctlGetTermios(fd, getTermios)
	if err != nil {
		return "", err // no terminal
	}
	silent := *before
	silent.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, setTermios, &silent); err != nil {
		return "", err
	}
	defer func() {
		_ = unix.IoctlSetTermios(fd, setTermios, before)
		fmt.Fprintln(prompt)
	}()
	fmt.Fprint(prompt, text)
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	return strings.TrimSpace(line), err
}

// triggerSpec asks the cluster for the mapping. It reads of it what a trigger has to know.
func (c *cli) triggerSpec(ctx context.Context, name string) (mysql.TriggerSpec, error) {
	var found api.Mapping
	if err := c.call(ctx, http.MethodGet, "/v1/mappings/"+url.PathEscape(name), nil, &found); err != nil {
		return mysql.TriggerSpec{}, err
	}
	var spec struct {
		Table      string   `json:"table"`
		PrimaryKey []string `json:"primary_key"`
		KeyColumns []string `json:"key_columns"`
		Mode       string   `json:"mode"`
		Columns    []struct {
			Name string `json:"name"`
		} `json:"columns"`
		Where []struct {
			Column string `json:"column"`
		} `json:"where"`
	}
	if err := json.Unmarshal(found.Spec, &spec); err != nil {
		return mysql.TriggerSpec{}, fmt.Errorf("mapping %s: %w", name, err)
	}
	// A mapping that only removes keys does not know what the cached object was made of: any column may count.
	out := mysql.TriggerSpec{Mapping: found.Name, Table: spec.Table, PrimaryKey: spec.PrimaryKey, KeyColumns: spec.KeyColumns, EveryUpdate: spec.Mode == "invalidate"}
	for _, column := range spec.Columns {
		out.Columns = append(out.Columns, column.Name)
	}
	for _, condition := range spec.Where {
		out.Columns = append(out.Columns, condition.Column)
	}
	return out, nil
}

func (c *cli) printTriggers(plan mysql.TriggerPlan) {
	fmt.Fprintln(c.out, "-- The tables come first: quiesce sync tables")
	writeStatements(c.out, mysql.TriggerSession)
	fmt.Fprintln(c.out, "DELIMITER $$")
	for _, t := range plan.Triggers {
		fmt.Fprintln(c.out, t.Statement()+"$$")
	}
	fmt.Fprintln(c.out, "DELIMITER ;")
	for _, line := range triggerNotes(plan) {
		fmt.Fprintln(c.out, "-- "+line)
	}
}

func (c *cli) applyTriggers(ctx context.Context, schema *mysql.Schema, plan mysql.TriggerPlan) error {
	if err := schema.CreateOutboxTables(ctx); err != nil {
		return err
	}
	made, err := schema.ApplyTriggers(ctx, plan)
	for _, t := range plan.Triggers {
		if slices.Contains(made, t.Name) {
			fmt.Fprintln(c.out, "made", t.Name)
		} else if err == nil {
			fmt.Fprintln(c.out, "unchanged", t.Name)
		}
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(c.out)
	for _, line := range triggerNotes(plan) {
		fmt.Fprintln(c.out, line)
	}
	return nil
}

// triggerNotes name what triggers miss and need.
func triggerNotes(plan mysql.TriggerPlan) []string {
	notes := []string{"Missed by triggers: TRUNCATE, dropped or exchanged partitions, and on a replica the rows that replication applies."}
	for _, k := range plan.Cascades {
		notes = append(notes, plain(fmt.Sprintf("Missed by triggers: what foreign key %s does here when %s changes (ON DELETE %s, ON UPDATE %s).", k.Constraint, k.Parent, k.OnDelete, k.OnUpdate)))
	}
	return append(notes,
		"A reconciliation pass of the mapping finds what was missed. LOAD DATA and REPLACE are seen.",
		"Needed: TRIGGER on the table; INSERT on quiesce_outbox for the account that makes the triggers, as which they run: if it is dropped, writes to the table fail.",
		"With a binary log the account needs SUPER, or the server log_bin_trust_function_creators = 1.")
}

func (c *cli) dropTriggers(ctx context.Context, schema *mysql.Schema, name string, tables bool) error {
	if err := schema.DropTriggers(ctx, name); err != nil {
		return err
	}
	fmt.Fprintln(c.out, "no triggers of", plain(name), "are left")
	if !tables {
		return nil
	}
	others, err := schema.OutboxTriggers(ctx)
	if err != nil {
		return err
	}
	if len(others) > 0 {
		fmt.Fprintln(c.out, "the tables stay: other triggers write to them:", plain(strings.Join(others, ", ")))
		return nil
	}
	notEmpty, err := schema.DropOutboxTables(ctx)
	switch {
	case err != nil:
		return err
	case notEmpty != "":
		fmt.Fprintf(c.out, "the tables stay: %s is not empty\n", notEmpty)
	default:
		fmt.Fprintln(c.out, "the tables were empty and are gone")
	}
	return nil
}
