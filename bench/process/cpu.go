package process

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is the unit of /proc: USER_HZ is 100 on every architecture that Go runs on.
const ticksPerSecond = 100

var errFormat = errors.New("process: unexpected content of /proc")

// CPU is the time that all threads of some processes have run so far, in user and kernel mode. Linux only.
func CPU(pids ...int) (time.Duration, error) {
	var sum time.Duration
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, err
		}
		one, err := parseStat(string(text))
		if err != nil {
			return 0, err
		}
		sum += one
	}
	return sum, nil
}

// parseStat reads utime and stime: fields 14 and 15, counted from behind the command, which may itself hold spaces and parentheses.
func parseStat(stat string) (time.Duration, error) {
	const utime, stime = 14 - 3, 15 - 3
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) <= stime {
		return 0, fmt.Errorf("%w: %q", errFormat, stat)
	}
	return ticks(fields[utime : stime+1]...)
}

// Resident is the memory of a process that is not swapped out, in bytes. Linux only.
func Resident(pid int) (uint64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0, fmt.Errorf("%w: %q", errFormat, text)
	}
	pages, err := strconv.ParseUint(fields[1], 10, 64)
	return pages * uint64(os.Getpagesize()), err
}

// Busy is the time that all cores of the machine have spent on processes so far. Linux only.
func Busy() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	return parseMachine(string(text))
}

// parseMachine adds user, nice and system time of the first line; what follows is idle time and what nobody can be blamed for.
func parseMachine(stat string) (time.Duration, error) {
	first, _, _ := strings.Cut(stat, "\n")
	fields := strings.Fields(first)
	if len(fields) < 4 || fields[0] != "cpu" {
		return 0, fmt.Errorf("%w: %q", errFormat, first)
	}
	return ticks(fields[1:4]...)
}

func ticks(fields ...string) (time.Duration, error) {
	var sum uint64
	for _, field := range fields {
		n, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%w: %w", errFormat, err)
		}
		sum += n
	}
	return time.Duration(sum) * time.Second / ticksPerSecond, nil
}
