package harness

import "syscall"

// attributes give a node a process group of its own, so that an interrupt of the terminal goes to the test alone, and tie its life to the
// thread that starts it. Go ends a thread only when a goroutine that is locked to it ends, which does not happen here.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
