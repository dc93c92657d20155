// Command quiesce looks after a Quiesce cluster and runs commands under its locks. docs/cli.md shows it in use; quiesce help exit-codes
// lists the exit codes.
package main

import (
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quiescehq/quiesce/client"
	"github.com/quiescehq/quiesce/cmd/quiesce/guard"
)

const (
	addrDefault    = "http://127.0.0.1:7400" // of quiesce-node -dev
	timeoutDefault = 10 * time.Second
	// attemptMax bounds one attempt at one node, so that a hanging one leaves time to ask another.
	attemptMax = 3 * time.Second
	typosMax   = 2 // in a command that is still guessed
)

// guardArgument makes this program the guard of a command instead, see package guard. It is none of the commands for people.
const guardArgument = "__guard"

func main() {
	if len(os.Args) == 2 && os.Args[1] == guardArgument {
		os.Exit(guard.Main())
	}
	c := &cli{getenv: os.Getenv, out: os.Stdout, err: os.Stderr}
	os.Exit(c.run(os.Args[1:]))
}

// cli is one run of the program.
type cli struct {
	getenv   func(string) string
	out, err io.Writer

	addrs   []string
	format  string
	timeout time.Duration
	by      string
}

// run parses the arguments, does what they say and returns the exit code.
func (c *cli) run(args []string) int {
	root := c.root()
	root.SetArgs(args)
	root.SetOut(c.out)
	root.SetErr(c.err)
	return c.exit(root.Execute())
}

func (c *cli) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "quiesce",
		Short:         "Look after a Quiesce cluster, and run commands under its locks",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          wantsCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(*cobra.Command, []string) error {
			return c.checkGlobals()
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage("%w", err) })
	flags := root.PersistentFlags()
	flags.StringSliceVar(&c.addrs, "addrs", c.addrsFromEnv(), "addresses of nodes, separated by commas ($"+client.EnvAddrs+")")
	flags.StringVarP(&c.format, "output", "o", formatTable, "table, json or yaml")
	flags.DurationVar(&c.timeout, "timeout", timeoutDefault, "how long to try to reach the cluster")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp)) // fails for a flag that is not there
	root.AddCommand(c.lockCommand(), c.electionCommand(), c.sessionCommand(), c.statusCommand(), c.auditCommand(), c.versionCommand(),
		c.runCommand(), c.servicesCommand(), c.serviceCommand(), c.instancesCommand(), c.instanceCommand(),
		c.drainCommand(), c.undoCommand(), c.pauseCommand(), c.resumeCommand(), c.planCommand(), c.cleanupCommand(), c.transactionsCommand(), c.syncCommand(),
		c.mappingCommand(), c.outboxCommand(), c.keyCommand(), c.reconcileCommand(),
		exitCodesTopic())
	return root
}

func (c *cli) addrsFromEnv() []string {
	if addrs := c.getenv(client.EnvAddrs); addrs != "" {
		return strings.Split(addrs, ",")
	}
	return []string{addrDefault}
}

func (c *cli) checkGlobals() error {
	if !knownFormat(c.format) {
		return usage("-o is one of %s, not %q", strings.Join(formats, ", "), c.format)
	}
	if c.timeout <= 0 {
		return usage("--timeout must be longer than nothing")
	}
	return nil
}

// client is for one run: it gives up with --timeout.
func (c *cli) client() (*client.Client, error) { return c.clientOver(nil) }

// clientOver uses an HTTP client of its own.
func (c *cli) clientOver(over *http.Client) (*client.Client, error) {
	cl, err := client.New(client.Config{Addrs: c.addrs, HTTPClient: over, RequestTimeout: min(attemptMax, c.timeout), RetryFor: c.timeout})
	if err != nil {
		return nil, usage("%w", err)
	}
	return cl, nil
}

// group is a command that has others below it and does nothing itself.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{Use: use, Short: short, Args: wantsCommand, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	g.AddCommand(commands...)
	return g
}

// wantsCommand refuses what cobra would answer with the help and success.
func wantsCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	similar := ""
	cmd.SuggestionsMinimumDistance = typosMax
	if names := cmd.SuggestionsFor(args[0]); len(names) > 0 {
		similar = ", did you mean " + strings.Join(names, " or ") + "?"
	}
	return usage("%s has no command %q%s", cmd.CommandPath(), args[0], similar)
}

// takes makes a wrong number of arguments a mistake of usage.
func takes(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usage("%s: %w; see %s --help", cmd.UseLine(), err, cmd.CommandPath())
		}
		return nil
	}
}
