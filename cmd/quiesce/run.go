package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client"
	"github.com/quiescehq/quiesce/cmd/quiesce/guard"
)

// serviceRun is one run of a command as an instance of a service.
type serviceRun struct {
	cli     *cli
	command []string
	path    string // of the command's program

	service     string
	name        string
	address     string
	grace       time.Duration
	lameDuck    time.Duration
	ttl         time.Duration
	intent      string
	platform    string
	gate        gate
	drainFile   string
	drainSignal string
	signal      syscall.Signal
	verbose     bool
}

// Environment of a command that runs as an instance, beside client.EnvAddrs and client.EnvInstance.
const (
	envService    = "QUIESCE_SERVICE"
	envInstanceID = "QUIESCE_INSTANCE_ID" // absent when the cluster could not be reached at the start
)

const runLong = `Run a command as an instance of a service: a program in any language is registered, ready, and drained like one with the client library.

It is ready when --ready-file exists, when --ready-url answers 2xx, or else at once. On SIGTERM, on SIGINT, or when the cluster grants a drain,
it goes on serving until the budget of the service has room (a platform that signalled is not kept waiting beyond its --grace), then:
--draining-file appears, so that what balancers probe can turn; the command serves for --lame-duck more; it gets --drain-signal, and SIGKILL with
all that it started when the time of the drain's phases is over. A drain can be undone until the signal. Other signals are passed on.

The exit code is the command's; 75 if it had to be killed, 76 if the cluster counted the instance as over, 128+n after a second signal n.
When the command ends by itself the instance leaves, and its place in the budget is kept for the next run.

A cluster that cannot be reached keeps the command neither from starting nor from stopping. For work that must run once only, run
"quiesce lock run" below it. A program that uses the client library needs no quiesce run: it would be there twice.`

func (c *cli) runCommand() *cobra.Command {
	r := &serviceRun{cli: c}
	cmd := &cobra.Command{
		Use:   "run --service NAME -- COMMAND [ARGUMENT...]",
		Short: "Run a command as an instance of a service, with a drain when it is to stop",
		Long:  runLong,
		Example: `  quiesce run --service orders --ready-url http://127.0.0.1:8080/healthz --draining-file /run/orders/draining -- ./orders
  quiesce run --service web --grace 40s --drain-signal QUIT -- nginx -g 'daemon off;'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := r.parse(args, cmd.ArgsLenAtDash()); err != nil {
				return err
			}
			return r.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&r.service, "service", c.getenv(envService), "which service ($"+envService+")")
	flags.StringVar(&r.name, "name", c.getenv(client.EnvInstance), "name of the instance, the same after a restart if it can be ($"+client.EnvInstance+", or host and process)")
	flags.StringVar(&r.address, "address", "", "where it serves, for those who look")
	flags.DurationVar(&r.grace, "grace", client.GraceDefault, "from the platform's signal to its kill: less than it really is")
	flags.DurationVar(&r.lameDuck, "lame-duck", 0, "how long to serve after it is no longer ready: two probe periods or more (default 3s, less where the grace is under 25s)")
	flags.DurationVar(&r.ttl, "ttl", 10*time.Second, "how long the cluster waits for a sign of life before it counts the instance as lost")
	flags.StringVar(&r.intent, "intent", api.IntentRestart, "what a stop is for: restart, or remove, which keeps no place for a successor")
	flags.StringVar(&r.platform, "platform", "", "kubernetes or none (default kubernetes where "+envKubernetes+" is set)")
	flags.StringVar(&r.gate.file, "ready-file", "", "ready when this file exists; one that is there at the start is removed")
	flags.StringVar(&r.gate.url, "ready-url", "", "ready when this answers 2xx")
	flags.StringVar(&r.drainFile, "draining-file", "", "made when the instance is no longer ready, and removed when it is again")
	flags.StringVar(&r.drainSignal, "drain-signal", "TERM", "what asks the command to end")
	flags.BoolVarP(&r.verbose, "verbose", "v", false, "tell what happens on standard error")
	return cmd
}

const (
	envKubernetes = "KUBERNETES_SERVICE_HOST"
	platformNone  = "none"
)

// parse takes in what stands before the dashes and after them.
func (r *serviceRun) parse(args []string, dash int) error {
	switch {
	case dash < 0:
		return usage("where is the command? quiesce run --service NAME -- COMMAND [ARGUMENT...]")
	case dash > 0:
		return usage("%q stands before the --: quiesce run --service NAME -- COMMAND [ARGUMENT...]", args[0])
	case len(args) == 0:
		return usage("there is no command after --")
	case r.service == "":
		return usage("an instance of which --service?")
	case r.gate.file != "" && r.gate.url != "":
		return usage("--ready-file and --ready-url exclude each other")
	case r.intent != api.IntentRestart && r.intent != api.IntentRemove:
		return usage("--intent is %s or %s, not %q", api.IntentRestart, api.IntentRemove, r.intent)
	}
	r.command = args
	if r.name == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "unknown"
		}
		r.name = fmt.Sprintf("%s-%d", host, os.Getpid())
	}
	if r.signal = unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(r.drainSignal), "SIG")); r.signal == 0 {
		return usage("--drain-signal %q is not the name of a signal, such as TERM or QUIT", r.drainSignal)
	}
	var err error
	r.path, err = programOf(r.command[0])
	return err
}

// run is the whole of it.
func (r *serviceRun) run(ctx context.Context) error {
	if err := r.gate.close(); err != nil {
		return err
	}
	signals := catch(append([]os.Signal{syscall.SIGTERM, syscall.SIGINT}, toCommand...))
	defer signals.stop()
	s := &serving{serviceRun: r, signals: signals, mark: rand.Text(), stops: make(chan os.Signal, stopsHeld)}
	app, err := client.Join(r.service, s.options()...)
	if err != nil {
		if errors.Is(err, client.ErrConfig) || errors.Is(err, client.ErrGrace) {
			err = usage("%w", err)
		}
		return err
	}
	s.app = app
	return s.serve(ctx)
}

func (s *serving) options() []client.Option {
	level := slog.LevelWarn
	if s.verbose {
		level = slog.LevelInfo
	}
	options := []client.Option{client.FromEnv(), client.Addrs(s.cli.addrs...), client.Name(s.name), client.Address(s.address),
		client.Grace(s.grace), client.LameDuck(s.lameDuck), client.LeaseTTL(s.ttl), client.ManualReady(), client.Signals(s.stops),
		client.Labels(map[string]string{markLabel: s.mark, "command": cutTo(s.command[0], api.LabelValueMax)}),
		client.Logger(slog.New(slog.NewTextHandler(s.cli.err, &slog.HandlerOptions{Level: level})))}
	if s.intent == api.IntentRemove {
		options = append(options, client.Removing())
	}
	switch s.platform {
	case "":
	case platformNone:
		options = append(options, client.Platform(""))
	default:
		options = append(options, client.Platform(s.platform))
	}
	return options
}

func cutTo(text string, bytes int) string {
	return strings.ToValidUTF8(text[:min(len(text), bytes)], "")
}

// spec is the command as the guard runs it. It has no time that it must end by: a cluster that is away does not end it. Its children end
// with it, so that the next run finds their ports free.
func (s *serving) spec(environment []string) guard.Spec {
	return guard.Spec{Path: s.path, Argv: s.command, Env: environment, Grace: s.grace / restParts, Rest: guard.EndRest, Until: math.MaxInt64, TTY: guard.NoTTY}
}

// restParts makes the time that what the command left behind has between SIGTERM and SIGKILL.
const restParts = 5 // grace / restParts
