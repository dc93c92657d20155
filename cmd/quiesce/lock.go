package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quiescehq/quiesce/api"
)

func (c *cli) lockCommand() *cobra.Command {
	return group("lock", "Run commands under locks, and see to locks",
		c.lockRun(), c.lockLs(), c.lockShow(), c.lockRelease(), c.lockRevoke(), c.lockHandOff(), c.lockCancel(), c.lockDeadlocks())
}

func (c *cli) lockLs() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "ls [PREFIX]",
		Short: "List the locks that somebody holds or waits for",
		Args:  takes(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{}
			if len(args) == 1 {
				query.Set("prefix", args[0])
			}
			locks := api.Locks{Locks: []api.Lock{}}
			more, err := c.pages(cmd.Context(), "/v1/locks", query, all, func(get func(any) error) (api.Page, error) {
				var page api.Locks
				err := get(&page)
				locks.Page, locks.Locks = page.Page, append(locks.Locks, page.Locks...)
				return page.Page, err
			})
			if err != nil {
				return err
			}
			defer c.hint(more)
			return c.show(locks, func(w io.Writer) { lockTable(locks.Locks).write(w) })
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "all of them, not only the first page")
	return cmd
}

func lockTable(locks []api.Lock) *table {
	t := &table{head: []string{"NAME", "MODE", "HOLDER", "TOKEN", "HELD", "LEASE", "WAITING", "VALUE"}}
	for _, l := range locks {
		holder, token, held, lease, value := "", "", "", "", ""
		if len(l.Holders) > 0 {
			first := l.Holders[0]
			holder, token, held, lease = who(first.Session, first.Owner), number(first.Token), span(first.HeldMs), spanIf(first.LeaseRemainingMs)
			value = first.Value
			if more := l.HoldersTotal - 1; more > 0 {
				holder += fmt.Sprintf(" +%d", more)
			}
		} else if l.DelayRemainingMs > 0 {
			holder = "delayed for " + span(l.DelayRemainingMs)
		}
		t.add(l.Name, modeOf(l), holder, token, held, lease, number(l.Waiting), value)
	}
	return t
}

func modeOf(l api.Lock) string {
	if l.Mode == api.ModePermits {
		return fmt.Sprintf("permits %d/%d", l.InUse, l.Limit)
	}
	return l.Mode
}

func who(session, owner string) string {
	if owner == "" {
		return session
	}
	return session + "/" + owner
}

func (c *cli) lockShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME",
		Short: "Show who holds a lock and who waits for it",
		Args:  takes(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			lock, err := c.findLock(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			names := map[string]string{}
			if c.format == formatTable {
				names = c.sessionNames(cmd.Context(), lock)
			}
			return c.show(lock, func(w io.Writer) { writeLock(w, lock, names) })
		},
	}
}

// findLock answers a free lock for a name that nobody uses: the cluster does not keep those.
func (c *cli) findLock(ctx context.Context, name string) (api.Lock, error) {
	var page api.Locks
	if err := c.call(ctx, http.MethodGet, "/v1/locks?name="+url.QueryEscape(name), nil, &page); err != nil {
		return api.Lock{}, err
	}
	for _, l := range page.Locks {
		if l.Name == name {
			return l, nil
		}
	}
	return api.Lock{Name: name}, nil
}

// namesMax bounds the questions that the display of one lock costs.
const namesMax = 20

// sessionNames finds what the first holders and waiters are called. A session that is gone meanwhile has no name.
func (c *cli) sessionNames(ctx context.Context, l api.Lock) map[string]string {
	names := map[string]string{}
	ask := func(session string) {
		if _, known := names[session]; known || len(names) == namesMax {
			return
		}
		var s api.Session
		_ = c.call(ctx, http.MethodGet, sessionPath(session), nil, &s)
		names[session] = s.Name
	}
	for _, h := range l.Holders {
		ask(h.Session)
	}
	for _, q := range l.Queue {
		ask(q.Session)
	}
	return names
}

func writeLock(w io.Writer, l api.Lock, names map[string]string) {
	about := &table{}
	about.add("lock", l.Name)
	about.add("mode", modeOf(l))
	about.add("holders", number(l.HoldersTotal))
	about.add("waiting", number(l.Waiting))
	if l.DelayRemainingMs > 0 {
		about.add("delay", span(l.DelayRemainingMs)+" more: a holder was lost")
	}
	about.write(w)
	if len(l.Holders) > 0 {
		fmt.Fprintln(w)
		holderTable(l, names).write(w)
	}
	if len(l.Queue) > 0 {
		fmt.Fprintln(w)
		queueTable(l, names).write(w)
	}
	if cut := l.HoldersTotal - len(l.Holders) + l.Waiting - len(l.Queue); cut > 0 {
		fmt.Fprintf(w, "\n%d more holders and waiters are not shown\n", cut)
	}
}

func holderTable(l api.Lock, names map[string]string) *table {
	t := &table{head: []string{"HOLDER", "TOKEN", "HELD", "LEASE", "NAME", "VALUE", "REMARKS"}}
	for _, h := range l.Holders {
		var remarks []string
		if h.Permits > 0 {
			remarks = append(remarks, fmt.Sprintf("permits: %d", h.Permits))
		}
		if h.Count > 1 {
			remarks = append(remarks, fmt.Sprintf("%d times", h.Count))
		}
		if h.Unclaimed {
			remarks = append(remarks, "not claimed yet")
		}
		if h.RevokedInMs > 0 {
			remarks = append(remarks, strings.TrimSuffix(fmt.Sprintf("revoked in %s: %s", span(h.RevokedInMs), h.RevokeReason), ": "))
		}
		t.add(who(h.Session, h.Owner), number(h.Token), span(h.HeldMs), spanIf(h.LeaseRemainingMs), names[h.Session], h.Value, strings.Join(remarks, ", "))
	}
	return t
}

func queueTable(l api.Lock, names map[string]string) *table {
	t := &table{head: []string{"WAITER", "TICKET", "MODE", "GIVES UP IN", "NAME", "ALSO WAITS FOR"}}
	for i, q := range l.Queue {
		mode := q.Mode
		if q.Permits > 0 {
			mode = fmt.Sprintf("%s %d", q.Mode, q.Permits)
		}
		var others []string
		for _, name := range q.Names {
			if name != l.Name {
				others = append(others, name)
			}
		}
		t.add(fmt.Sprintf("%d. %s", i+1, who(q.Session, q.Owner)), number(q.Ticket), mode, span(q.RemainingMs), names[q.Session], strings.Join(others, ", "))
	}
	return t
}
