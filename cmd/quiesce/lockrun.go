package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/client"
	"github.com/quiescehq/quiesce/cmd/quiesce/guard"
)

const (
	// ttlDefault leaves room for a failover between a keepalive and the moment when the command must be asked to end.
	ttlDefault = 15 * time.Second
	// graceParts makes the default grace, and its largest: at 2 the command would be asked to end a tenth of the TTL after the first
	// keepalive that failed.
	graceParts    = 3 // ttl / graceParts
	gracePartsMax = 2
)

// Environment of a command under a lock.
const (
	envName    = "QUIESCE_LOCK_NAME"    // the name, or the first of several
	envToken   = "QUIESCE_LOCK_TOKEN"   // its fencing token
	envSession = "QUIESCE_LOCK_SESSION" // the session that holds it
	envLocks   = "QUIESCE_LOCKS"        // all: [{"name": …, "token": …}, …]
)

// lockRun is one run of a command under locks.
type lockRun struct {
	cli     *cli
	names   []string
	command []string
	path    string // of the command's program

	wait    time.Duration // below 0: as long as it takes
	ttl     time.Duration
	grace   time.Duration // below 0: a part of the TTL
	shared  bool
	permits int
	limit   int
	value   string
	delay   time.Duration
	rest    string
	verbose bool
}

const lockRunLong = `Take the locks, all or none, run the command, and give the locks back when it has ended. The exit code is the command's.

The command has ended before anybody else can have a lock. When the lease cannot be renewed, or an operator asks for the lock back, the
command, its children and theirs get SIGTERM, and SIGKILL before the lease can pass on; so they do when quiesce itself is killed or stopped.
What the command leaves behind when it ends is ended too, see --rest.

SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM and SIGWINCH are passed on. In a terminal the command is in the foreground.

The command has QUIESCE_LOCK_NAME and QUIESCE_LOCK_TOKEN, the fencing token, in its environment: of the first name, when there are several;
QUIESCE_LOCKS has all, as JSON. A resource that refuses lower tokens than it has seen is safe from a whole machine that was stopped.`

func (c *cli) lockRun() *cobra.Command {
	r := &lockRun{cli: c}
	cmd := &cobra.Command{
		Use:   "run NAME... -- COMMAND [ARGUMENT...]",
		Short: "Run a command that has ended before another can have the lock",
		Long:  lockRunLong,
		Example: `  quiesce lock run nightly --wait 0 -- ./report.sh        # do nothing if it runs elsewhere
  quiesce lock run account/1 account/2 -- ./transfer       # both or none
  quiesce lock run --permits 1 --limit 4 render -- ./job   # four at a time`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := r.parse(args, cmd.ArgsLenAtDash()); err != nil {
				return err
			}
			return r.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.DurationVar(&r.wait, "wait", -1, "how long to wait for the locks, 0 for not at all (default as long as it takes)")
	flags.DurationVar(&r.ttl, "ttl", ttlDefault, "how long the cluster waits for a sign of life before it gives the locks to others")
	flags.DurationVar(&r.grace, "grace", -1, "time between SIGTERM and SIGKILL, at most half the ttl (default a third)")
	flags.BoolVar(&r.shared, "shared", false, "together with other shared holders")
	flags.IntVar(&r.permits, "permits", 0, "take so many permits of a semaphore, see --limit")
	flags.IntVar(&r.limit, "limit", 0, "how many permits there are in all")
	flags.StringVar(&r.value, "value", "", "shown to those who look at the lock (default user@host and process)")
	flags.DurationVar(&r.delay, "lock-delay", 0, "when this holder is lost, keep the locks from everybody for so long")
	flags.StringVar(&r.rest, "rest", string(guard.EndRest), "what the command leaves running: end it, wait for it, or leave it")
	flags.BoolVarP(&r.verbose, "verbose", "v", false, "tell what happens on standard error")
	return cmd
}

// parse takes in what stands before the dashes and after them.
func (r *lockRun) parse(args []string, dash int) error {
	switch {
	case dash < 0:
		return usage("where is the command? quiesce lock run NAME... -- COMMAND [ARGUMENT...]")
	case dash == 0:
		return usage("which lock? quiesce lock run NAME... -- COMMAND [ARGUMENT...]")
	case dash == len(args):
		return usage("there is no command after --")
	}
	r.names, r.command = args[:dash], args[dash:]
	if r.grace < 0 {
		r.grace = r.ttl / graceParts
	}
	if r.value == "" {
		r.value = fmt.Sprintf("%s pid %d", r.cli.operator(), os.Getpid())
	}
	return r.check()
}

func (r *lockRun) check() error {
	semaphore := r.permits != 0 || r.limit != 0
	switch {
	case len(r.names) > api.LocksMax:
		return usage("%d locks at most at a time", api.LocksMax)
	case slices.Contains(r.names, ""):
		return usage("a lock must have a name")
	case r.ttl < api.SessionTTLMinMs*time.Millisecond || r.ttl > api.SessionTTLMaxMs*time.Millisecond:
		return usage("--ttl is between %s and %s", api.SessionTTLMinMs*time.Millisecond, api.SessionTTLMaxMs*time.Millisecond)
	case r.grace > r.ttl/gracePartsMax:
		return usage("--grace %s is more than half of --ttl %s: the command could not be asked in time", r.grace, r.ttl)
	case r.shared && semaphore:
		return usage("--shared and --permits exclude each other")
	case semaphore && (r.permits < 1 || r.limit < r.permits):
		return usage("a semaphore needs --permits, 1 or more, and --limit, not less")
	case !slices.Contains([]guard.Rest{guard.EndRest, guard.AwaitRest, guard.LeaveRest}, guard.Rest(r.rest)):
		return usage("--rest is end, wait or leave, not %q", r.rest)
	}
	return r.find()
}

// find looks for the command's program before anybody waits for its lock.
func (r *lockRun) find() (err error) {
	r.path, err = programOf(r.command[0])
	return err
}

// programOf finds a command's program, or says with which exit code it is not to be had.
func programOf(name string) (string, error) {
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
		return path, nil
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return "", &exitError{guard.CodeNotFound, fmt.Errorf("%s: no such command", name)}
	}
	return "", &exitError{guard.CodeCannotRun, err}
}

func (r *lockRun) want() []client.Want {
	switch {
	case r.shared:
		return client.Shared(r.names...)
	case r.permits > 0:
		var all []client.Want
		for _, name := range r.names {
			all = append(all, client.Permits(name, r.permits, r.limit)...)
		}
		return all
	}
	return client.Exclusive(r.names...)
}

func (r *lockRun) options() []client.LockOption {
	options := []client.LockOption{client.Owner(""), client.Value(r.value), client.LockDelay(r.delay)}
	if r.wait >= 0 {
		options = append(options, client.WaitAtMost(r.wait))
	}
	return options
}

// run is the whole of it.
func (r *lockRun) run(ctx context.Context) error {
	signals := catch(passedOn)
	defer signals.stop()
	cl, err := r.cli.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	waiting, stop := signals.interrupted(ctx)
	h, err := r.take(waiting, cl)
	stop()
	if s := signals.first(); s != 0 {
		if err == nil {
			_ = h.giveBack(ctx) // or it lapses
		}
		return &exitError{128 + int(s), fmt.Errorf("%s while waiting for %s", s, r.quoted())}
	}
	if err != nil {
		return err
	}
	tty := &terminal{fd: foreground()}
	child, err := guard.Start(guardCommand(), r.spec(h, tty.fd))
	if err != nil {
		return errors.Join(err, h.giveBack(ctx))
	}
	h.attend(child, signals, tty)
	tty.takeBack()
	return h.finish(ctx, child)
}

// take opens a session and takes the locks for it.
func (r *lockRun) take(ctx context.Context, cl *client.Client) (*holding, error) {
	opening, cancel := context.WithTimeout(ctx, 2*r.cli.timeout) // the client gives up first, and knows better why
	defer cancel()
	name := plain(fmt.Sprintf("lock run %s: %s (%s)", strings.Join(r.names, " "), r.command[0], r.value))
	session, err := cl.OpenSession(opening, strings.ToValidUTF8(name[:min(len(name), api.NameBytesMax)], ""), r.ttl)
	if err != nil {
		return nil, err
	}
	h := &holding{lockRun: r, client: cl, session: session}
	r.tell("waiting for %s as session %s", r.quoted(), session.ID())
	if h.locks, err = session.LockMany(ctx, r.want(), r.options()...); err != nil {
		_ = h.giveBack(context.WithoutCancel(ctx)) // the first error says more; the session ends by itself
		return nil, r.explain(err)
	}
	r.tell("has %s", r.quoted())
	return h, nil
}

// explain says what was waited for, and who has it.
func (r *lockRun) explain(err error) error {
	if errors.Is(err, client.ErrLeaseLapsed) || errors.Is(err, client.ErrSessionGone) || errors.Is(err, client.ErrLockLost) {
		return &exitError{exitLost, err}
	}
	var refused *client.Error
	if !errors.As(err, &refused) || exitCodeOf(err) != exitNotInTime {
		return err
	}
	text := fmt.Sprintf("%s was not to be had within %s", r.quoted(), r.wait)
	if r.wait == 0 {
		text = r.quoted() + " is taken"
	}
	if refused.Holder != "" {
		text += fmt.Sprintf(": session %s has it (token %d)", refused.Holder, refused.Token)
	}
	return &exitError{exitNotInTime, errors.New(text)}
}

func (r *lockRun) spec(h *holding, tty int) guard.Spec {
	return guard.Spec{Path: r.path, Argv: r.command, Env: append(os.Environ(), h.environment()...), Grace: r.grace,
		Rest: guard.Rest(r.rest), Until: guard.In(h.session.Remaining()), TTY: tty}
}

func (h *holding) environment() []string {
	grants := make([]api.Grant, len(h.names))
	for i, name := range h.names {
		grants[i] = api.Grant{Name: name, Token: h.locks.Token(name)}
	}
	all, err := json.Marshal(grants)
	if err != nil {
		all = nil // not possible: names are strings
	}
	return []string{
		envName + "=" + h.names[0],
		envToken + "=" + strconv.FormatUint(grants[0].Token, 10),
		envSession + "=" + h.session.ID(),
		envLocks + "=" + string(all),
	}
}

// guardCommand is this program once more.
func guardCommand() []string {
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0]
	}
	return []string{self, guardArgument}
}

func (r *lockRun) quoted() string {
	quoted := make([]string, len(r.names))
	for i, name := range r.names {
		quoted[i] = strconv.Quote(name)
	}
	if len(quoted) > 1 {
		return "locks " + strings.Join(quoted, ", ")
	}
	return "lock " + quoted[0]
}

func (r *lockRun) tell(format string, args ...any) {
	if r.verbose {
		r.say(format, args...)
	}
}

func (r *lockRun) say(format string, args ...any) {
	fmt.Fprintf(r.cli.err, "quiesce: "+format+"\n", args...)
}
