package guard

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// ErrGuard says that the guard itself could not be started, or died.
var ErrGuard = errors.New("guard: the process that guards the command failed")

// Child is a command under a guard, as the asker sees it. It is safe for concurrent use.
type Child struct {
	process *exec.Cmd
	orders  *os.File
	sending sync.Mutex

	pid     int
	stopped chan syscall.Signal
	ended   chan struct{}
	outcome Outcome
	err     error
}

// Start starts a guard, which is the program self with its arguments, to call Main, and under it the command. What cannot be started is an
// Outcome with a Fault. The command has this process's standard streams.
func Start(self []string, s Spec) (*Child, error) {
	ordersOut, ordersIn, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrGuard, err)
	}
	newsOut, newsIn, err := os.Pipe()
	if err != nil {
		_, _ = ordersOut.Close(), ordersIn.Close()
		return nil, fmt.Errorf("%w: %w", ErrGuard, err)
	}
	c := &Child{process: exec.Command(self[0], self[1:]...), orders: ordersIn,
		stopped: make(chan syscall.Signal, 1), ended: make(chan struct{})}
	c.process.Stdin, c.process.Stdout, c.process.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.process.ExtraFiles = []*os.File{ordersOut, newsIn} // ordersFD, newsFD
	c.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = c.process.Start()
	_, _ = ordersOut.Close(), newsIn.Close()
	if err != nil {
		_, _ = ordersIn.Close(), newsOut.Close()
		return nil, fmt.Errorf("%w: %w", ErrGuard, err)
	}
	c.send(order{Spec: &s}, 0) // more than a pipe holds, perhaps; the guard reads it first
	decoder := json.NewDecoder(newsOut)
	var first news
	if err := decoder.Decode(&first); err != nil {
		first.Outcome = nil
	}
	c.pid = first.Started
	go c.follow(decoder, newsOut, first) // ends with the guard; Ended tells
	return c, nil
}

// follow reads news until the last.
func (c *Child) follow(decoder *json.Decoder, pipe *os.File, n news) {
	defer close(c.ended)
	defer func() { _, _ = pipe.Close(), c.orders.Close() }()
	var err error
	for err == nil && n.Outcome == nil {
		if n.Stopped != 0 {
			select {
			case c.stopped <- syscall.Signal(n.Stopped):
			default:
			}
		}
		n = news{}
		err = decoder.Decode(&n)
	}
	if n.Outcome != nil {
		c.outcome = *n.Outcome
	} else {
		c.err = fmt.Errorf("%w: it ended without a word", ErrGuard)
		c.killGroup()
	}
	_ = c.process.Wait() // its exit code says nothing more
}

// PID is the command's process, the leader of its group; 0 when it could not be started.
func (c *Child) PID() int { return c.pid }

// Ended is closed when nothing is left of the command, or only what may be left. See Outcome.
func (c *Child) Ended() <-chan struct{} { return c.ended }

// Outcome is how the command ended, once Ended is closed.
func (c *Child) Outcome() (Outcome, error) { return c.outcome, c.err }

// Stopped tells by what signal the command was stopped. SIGTSTP, as by Ctrl-Z, is undone already.
func (c *Child) Stopped() <-chan syscall.Signal { return c.stopped }

// Extend tells until when the command may run.
func (c *Child) Extend(until Instant) { c.send(order{Until: until}, sendWithin) }

// Signal passes a signal on to the command's group.
func (c *Child) Signal(s syscall.Signal) { c.send(order{Signal: int(s)}, sendWithin) }

// End asks the command to end now, and kills it in a while, or when the time is up if that is earlier.
func (c *Child) End(within time.Duration) { c.send(order{KillAt: In(within)}, sendWithin) }

// Stop sends a signal to the command alone, which ends in its own way, with all that it started. What runs after a while is killed; what the
// command leaves behind when it has ended gets SIGTERM before.
func (c *Child) Stop(s syscall.Signal, within time.Duration) {
	c.send(order{Signal: int(s), KillAt: In(within)}, sendWithin)
}

// Kill is for a guard that does not do its work: the command's group is killed past it.
func (c *Child) Kill() {
	select {
	case <-c.ended:
	default:
		c.killGroup()
	}
}

func (c *Child) killGroup() {
	if c.pid > 0 {
		_ = syscall.Kill(-c.pid, syscall.SIGKILL) // ESRCH: it has ended
	}
}

// sendWithin bounds an order. One that a hanging guard has no room for is lost: it goes by the instant that it was told before. It is long
// beside a write that has room, for a process that was stalled on its way to one must not lose a signal.
const sendWithin = time.Second

// send is lost on a guard that has ended, which its news tell. An order that fits into a pipe at once is written whole or not at all.
// Within 0 is without a bound.
func (c *Child) send(o order, within time.Duration) {
	line, err := json.Marshal(o)
	if err != nil {
		return // not possible: no field can fail
	}
	c.sending.Lock()
	defer c.sending.Unlock()
	var until time.Time
	if within > 0 {
		until = time.Now().Add(within)
	}
	_ = c.orders.SetWriteDeadline(until)
	_, _ = c.orders.Write(append(line, '\n'))
}
