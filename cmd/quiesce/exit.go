package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quiescehq/quiesce/client"
	"github.com/quiescehq/quiesce/cmd/quiesce/guard"
)

// Exit codes. Their meanings are in exitCodes.
const (
	exitRefused     = 1
	exitUsage       = 64
	exitDivergent   = 65
	exitUnavailable = 69
	exitUnknown     = 70
	exitNotInTime   = 75
	exitLost        = 76
	exitFailed      = 77
	exitUndone      = 78
)

// exitCodes is the one table of them.
var exitCodes = []struct{ code, meaning string }{
	{"0", "done"},
	{fmt.Sprint(exitRefused), "the cluster refused, or something here failed: the sentence says which"},
	{fmt.Sprint(exitUsage), "wrong usage"},
	{fmt.Sprint(exitDivergent), "reconcile run, watch, once: table and cache differ, or the pass is held and waits for an approval"},
	{fmt.Sprint(exitUnavailable), "no node could be reached or take the request within --timeout; nothing was changed"},
	{fmt.Sprint(exitUnknown), "the outcome is unknown: the request may have been applied or not"},
	{fmt.Sprint(exitNotInTime), "lock run: the lock was not to be had within --wait; the command was not started"},
	{fmt.Sprint(exitNotInTime), "drain --wait, plan watch, reconcile run, watch: not over yet, and it goes on"},
	{fmt.Sprint(exitNotInTime), "run: the command did not end in time and was killed"},
	{fmt.Sprint(exitLost), "lock run: the lock was lost, revoked or taken away; the command was ended, or not started"},
	{fmt.Sprint(exitLost), "drain --wait: the instance was forced or lost"},
	{fmt.Sprint(exitLost), "run: the instance was over for the cluster; the command was ended"},
	{fmt.Sprint(exitFailed), "plan watch: the plan failed; reconcile run, watch, once: the pass failed"},
	{fmt.Sprint(exitUndone), "drain --wait: the drain was undone; plan watch, reconcile run, watch: the plan or pass was cancelled"},
	{fmt.Sprint(guard.CodeCannotRun), "lock run, run: the command cannot be run"},
	{fmt.Sprint(guard.CodeNotFound), "lock run, run: there is no such command"},
	{"128+n", "ended by signal n; lock run, run: the command was"},
}

func exitCodesTopic() *cobra.Command {
	var text strings.Builder
	t := table{head: []string{"CODE", "MEANING"}}
	for _, e := range exitCodes {
		t.add(e.code, e.meaning)
	}
	t.write(&text)
	text.WriteString("\nlock run and run exit with the code of their command, whatever that is. Where they exit with one of their own, they say why on standard error.\n")
	return &cobra.Command{Use: "exit-codes", Short: "What the exit codes mean", Long: text.String()}
}

// exitError is an error that has its exit code. Without a cause it says nothing.
type exitError struct {
	code  int
	cause error
}

func (e *exitError) Error() string {
	if e.cause == nil {
		return ""
	}
	return e.cause.Error()
}

func (e *exitError) Unwrap() error { return e.cause }

func usage(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

// silently ends with a code that needs no explanation: that of another program.
func silently(code int) error { return &exitError{code: code} }

// exit tells an error in one sentence and chooses the exit code.
func (c *cli) exit(err error) int {
	if err == nil {
		return 0
	}
	if sentence := sentenceOf(err); sentence != "" {
		fmt.Fprintln(c.err, "quiesce: "+sentence)
	}
	return exitCodeOf(err)
}

// exitCodeOf. A request that the server finds invalid was typed wrongly here, so that counts as usage.
func exitCodeOf(err error) int {
	var own *exitError
	var refused *client.Error
	switch {
	case errors.As(err, &own):
		return own.code
	case errors.Is(err, client.ErrOutcomeUnknown):
		return exitUnknown
	case errors.Is(err, client.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return exitUnavailable
	case errors.Is(err, client.ErrLockHeld), errors.Is(err, client.ErrLockWaitTimeout):
		return exitNotInTime
	case errors.As(err, &refused) && (refused.Status == http.StatusUnprocessableEntity || refused.Status == http.StatusBadRequest):
		return exitUsage
	}
	return exitRefused
}

// sentenceOf makes one line of an error. What the server refuses has its code behind it, for those who search for it.
func sentenceOf(err error) string {
	text := err.Error()
	var refused *client.Error
	if errors.As(err, &refused) && !errors.Is(err, client.ErrUnavailable) && !errors.Is(err, client.ErrOutcomeUnknown) {
		text = refused.Detail
		for _, f := range refused.Faults {
			if fault := f.Field + ": " + f.Reason; !strings.Contains(text, fault) {
				text += "; " + fault
			}
		}
		text += " (" + string(refused.Code) + ")"
	}
	return plain(strings.ReplaceAll(text, "client: ", ""))
}
