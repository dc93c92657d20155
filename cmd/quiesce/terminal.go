package main

import (
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/quiescehq/quiesce/cmd/quiesce/guard"
)

// terminal is the one that the command shares with a shell. The command has a group of its own, so it must be made the foreground's.
type terminal struct {
	fd     int  // where the command has the foreground, or guard.NoTTY
	wanted bool // the command runs in the background and was stopped because it wants the foreground
}

// stopped takes in why the command was stopped, and tells whether that was a person's Ctrl-Z.
func (t *terminal) stopped(by syscall.Signal) bool {
	t.wanted = by == syscall.SIGTTIN || by == syscall.SIGTTOU
	return by == syscall.SIGTSTP
}

// look gives the command what it waits for, when the shell has made this program's job the foreground's. A shell does not tell a job that
// runs of that. Without any terminal the command goes on and sees it for itself.
func (t *terminal) look(child *guard.Child) {
	if !t.wanted {
		return
	}
	if fd := foreground(); fd != guard.NoTTY {
		t.fd = fd
		_ = unix.IoctlSetPointerInt(fd, unix.TIOCSPGRP, child.PID()) // if it fails, the command is stopped again
	} else if attached() {
		return
	}
	t.wanted = false
	child.Signal(syscall.SIGCONT)
}

// takeBack makes this program's group the foreground's again: the shell expects it so.
func (t *terminal) takeBack() {
	if t.fd == guard.NoTTY {
		return
	}
	signal.Ignore(syscall.SIGTTOU) // who is in the background and asks for the foreground is stopped by it otherwise
	_ = unix.IoctlSetPointerInt(t.fd, unix.TIOCSPGRP, unix.Getpgrp())
}

// foreground finds the terminal in whose foreground this program runs, among the standard streams.
func foreground() int {
	for fd := range 3 {
		if group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP); err == nil && group == unix.Getpgrp() {
			return fd
		}
	}
	return guard.NoTTY
}

// attached tells whether a standard stream is a terminal of this session.
func attached() bool {
	for fd := range 3 {
		if _, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP); err == nil {
			return true
		}
	}
	return false
}
