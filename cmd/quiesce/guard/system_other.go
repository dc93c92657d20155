//go:build !linux

package guard

import (
	"syscall"

	"golang.org/x/sys/unix"
)

const sharedClock = unix.CLOCK_MONOTONIC

func inheritOrphans() error { return nil }

func commandAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func children() []int { return nil }
