package guard

import (
	"encoding/json"
	"errors"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

const (
	watchEvery = 200 * time.Millisecond // also to notice that the machine slept
	endEvery   = 20 * time.Millisecond  // while the command is being ended
)

// Exit codes of a command that could not be started, as shells have them.
const (
	CodeCannotRun = 126
	CodeNotFound  = 127
)

// guard is the state of the process in between. One goroutine owns it.
type guard struct {
	spec Spec
	out  *json.Encoder

	pid      int  // the command's, and its group's
	stopped  bool // the command
	ended    bool // the command, and it is reaped
	empty    bool // no child is left
	outcome  Outcome
	ending   bool
	gently   bool         // the command was told to end in its own way: what it started is its own to end, while it runs
	killAt   Instant      // when ending, or at spec.Until if that is earlier
	asked    map[int]bool // targets that got their SIGTERM
	children <-chan os.Signal
}

// Main is the whole life of the guard's process, which Start has started. It returns its exit code.
func Main() int {
	runtime.LockOSThread() // the kernel kills the command when the thread that forked it ends
	syscall.CloseOnExec(ordersFD)
	syscall.CloseOnExec(newsFD)
	decoder, out := json.NewDecoder(os.NewFile(ordersFD, "orders")), os.NewFile(newsFD, "news")
	var first order
	if err := decoder.Decode(&first); err != nil || first.Spec == nil {
		return CodeCannotRun
	}
	catchAll()
	exits := make(chan os.Signal, 1) // one tells of all that happened until it is read
	signal.Notify(exits, syscall.SIGCHLD)
	g := &guard{spec: *first.Spec, out: json.NewEncoder(out), children: exits, asked: map[int]bool{}}
	if err := g.start(); err != nil {
		g.outcome = Outcome{Code: CodeCannotRun, Fault: err.Error()}
		if errors.Is(err, os.ErrNotExist) {
			g.outcome.Code = CodeNotFound
		}
	} else {
		orders := make(chan order)
		go readOrders(decoder, orders) // ends with this process: the read of a pipe cannot be called off
		g.run(orders)
	}
	g.tell(news{Outcome: &g.outcome})
	return 0
}

// catchAll keeps this process alive through the signals of terminals and impatient people. They are caught, not ignored: what is ignored
// stays so in the command. What was ignored already, as under nohup, is to stay so there.
func catchAll() {
	dropped := make(chan os.Signal, 1)
	for _, s := range []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
		syscall.SIGALRM, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGPIPE} {
		if !signal.Ignored(s) {
			signal.Notify(dropped, s)
		}
	}
}

func (g *guard) start() error {
	if err := inheritOrphans(); err != nil {
		return err
	}
	attributes := commandAttributes()
	if g.spec.TTY != NoTTY {
		attributes.Foreground, attributes.Ctty = true, g.spec.TTY
	}
	pid, err := syscall.ForkExec(g.spec.Path, g.spec.Argv, &syscall.ProcAttr{Env: g.spec.Env, Files: []uintptr{0, 1, 2}, Sys: attributes})
	if err != nil {
		return err
	}
	g.pid = pid
	g.tell(news{Started: pid})
	return nil
}

// readOrders ends with the asker.
func readOrders(decoder *json.Decoder, orders chan<- order) {
	defer close(orders)
	for {
		var o order
		if decoder.Decode(&o) != nil {
			return
		}
		orders <- o
	}
}

// tell is best effort: the asker may be gone.
func (g *guard) tell(n news) { _ = g.out.Encode(n) }

// run lasts until nothing is left of the command, or only what may be left.
func (g *guard) run(orders <-chan order) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for !g.over() {
		select {
		case o, ok := <-orders:
			if ok {
				g.obey(o)
				break
			}
			orders = nil // the asker is gone
			g.end(In(g.spec.Grace), true)
		case <-g.children:
			g.reap()
		case <-timer.C:
		}
		g.step()
		timer.Reset(g.pause())
	}
}

func (g *guard) over() bool { return g.ended && (g.empty || g.spec.Rest == LeaveRest && !g.ending) }

// pause is how long nothing needs to be done.
func (g *guard) pause() time.Duration {
	switch {
	case g.gently && !g.ended:
		return min(watchEvery, max(0, min(g.killAt, g.spec.Until).until()))
	case g.ending:
		return endEvery
	}
	return min(watchEvery, max(0, (g.spec.Until-Instant(g.spec.Grace)).until()))
}

func (g *guard) obey(o order) {
	switch {
	case o.Signal != 0 && o.KillAt != 0:
		g.stop(syscall.Signal(o.Signal), o.KillAt)
	case o.Signal != 0:
		g.pass(syscall.Signal(o.Signal))
	case o.KillAt != 0:
		g.gently = false
		g.end(o.KillAt, true)
	default:
		g.spec.Until = o.Until
	}
}

// pass hands a signal on to the command's group.
func (g *guard) pass(s syscall.Signal) { g.signal(-g.pid, s) }

// stop signals the command alone, as a service manager does: a server that has workers wants to end them in its own order. What runs at the
// instant is killed.
func (g *guard) stop(s syscall.Signal, killAt Instant) {
	g.gently = !g.ending
	g.end(killAt, true)
	g.signal(g.pid, s)
}

// signal reaches the command, or its group. One that is stopped is continued, so that it heeds it.
func (g *guard) signal(target int, s syscall.Signal) {
	if g.ended {
		return
	}
	_ = syscall.Kill(target, s) // EPERM, of a command that became another user, is not ours to mend
	if g.stopped {
		g.stopped = false
		_ = syscall.Kill(-g.pid, syscall.SIGCONT)
	}
}

// reap takes in what became of the children. Only here does one go, so that the numbers in use elsewhere are those of living or dead
// children, never of strangers.
func (g *guard) reap() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG|syscall.WUNTRACED, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil: // ECHILD
			g.empty = true
			return
		case pid == 0:
			return
		case pid == g.pid:
			g.note(status)
		}
	}
}

// note takes in what became of the command.
func (g *guard) note(status syscall.WaitStatus) {
	switch {
	case status.Stopped():
		if status.StopSignal() == syscall.SIGTSTP {
			// After Ctrl-Z somebody would keep the lock who does nothing, and the shell would not know that it has the terminal back.
			g.pass(syscall.SIGCONT)
		} else {
			g.stopped = true
		}
		g.tell(news{Stopped: int(status.StopSignal())})
	case status.Exited():
		g.ended, g.outcome.Code = true, status.ExitStatus()
	case status.Signaled():
		g.ended, g.outcome.Signal = true, int(status.Signal())
	}
}

// end begins the end, or brings it forward. Cut tells that the command is the one to be ended, not what it left.
func (g *guard) end(killAt Instant, cut bool) {
	if g.ending {
		g.killAt = min(g.killAt, killAt)
		return
	}
	g.ending, g.killAt = true, killAt
	g.outcome.Cut = cut
}

// step does what is due.
func (g *guard) step() {
	if !g.ending && Now() >= g.spec.Until-Instant(g.spec.Grace) {
		g.end(g.spec.Until, true)
	}
	if g.ended && !g.empty && !g.ending {
		g.outcome.Rest = max(g.outcome.Rest, len(children()))
		if g.spec.Rest == EndRest {
			g.end(In(g.spec.Grace), false)
		}
	}
	if !g.ending || g.empty {
		return
	}
	kill := Now() >= min(g.killAt, g.spec.Until)
	for target := range g.targets() {
		switch {
		case kill:
			_ = syscall.Kill(target, syscall.SIGKILL) // EPERM as in signal
		case g.gently && !g.ended:
		case !g.asked[target]:
			g.asked[target] = true
			_ = syscall.Kill(target, syscall.SIGTERM)
			_ = syscall.Kill(target, syscall.SIGCONT) // one that is stopped hears nothing
		}
	}
}

// targets are what kill(2) takes for the groups of the command, while it is not reaped, and of the children, orphans among them. A child
// is in its group, so the number cannot belong to others. Groups deeper down come up when those above them have ended.
func (g *guard) targets() map[int]bool {
	out := map[int]bool{}
	if !g.ended {
		out[-g.pid] = true
	}
	own := syscall.Getpgrp()
	for _, pid := range children() {
		switch group, err := syscall.Getpgid(pid); {
		case err != nil:
		case group == own: // it went there to hide
			out[pid] = true
		default:
			out[-group] = true
		}
	}
	return out
}
