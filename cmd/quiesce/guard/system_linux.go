package guard

import (
	"bytes"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// sharedClock runs on while the machine sleeps: a lease does too.
const sharedClock = unix.CLOCK_BOOTTIME

// inheritOrphans makes descendants whose parents have ended children of this process, so that none is out of reach.
func inheritOrphans() error { return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// commandAttributes make the command the leader of a group. The kernel kills it when the thread that forked it ends.
func commandAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// children are the processes whose parent is this one: none of them can have got an old number, for only this process reaps them.
// /proc/*/stat is read rather than /proc/self/task/*/children, which not every kernel has.
func children() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	self := os.Getpid()
	var out []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if stat, err := os.ReadFile("/proc/" + e.Name() + "/stat"); err == nil && parentIn(stat) == self {
			out = append(out, pid)
		}
	}
	return out
}

// parentIn reads the parent from a line of /proc/*/stat: number (name) state parent ... The name may hold anything, so it is skipped from
// behind. Zombies count: they keep their group's number.
func parentIn(stat []byte) int {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(string(fields[1]))
	return parent
}
