package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quiescehq/quiesce/api"
)

func (c *cli) keyCommand() *cobra.Command {
	return group("key", "One row, its cache keys and what happened to them", c.keyCheck(), c.keyTimeline())
}

// keyParts reads a key as commands take it: parts separated by commas, or a JSON array where a part has a comma itself.
func keyParts(key string) []json.RawMessage {
	var parts []json.RawMessage
	if strings.HasPrefix(key, "[") && json.Unmarshal([]byte(key), &parts) == nil {
		return parts
	}
	for part := range strings.SplitSeq(key, ",") {
		text, err := json.Marshal(part)
		if err != nil {
			panic(err) // a text
		}
		parts = append(parts, text)
	}
	return parts
}

func (c *cli) keyCheck() *cobra.Command {
	var fix bool
	cmd := &cobra.Command{
		Use:   "check MAPPING KEY",
		Short: "Compare a row with what the cache has of it",
		Long: `Compare a row with what the cache has of it: the row as the primary has it, the value that it becomes, the value that is there, and
the event that is under way. KEY is the value of the mapping's key columns, separated by commas, or a JSON array.
Exit code 1 says that they differ.`,
		Args: takes(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var got api.KeyCheck
			if err := c.post(cmd.Context(), "/v1/keys/check", api.CheckKey{Mapping: args[0], PK: keyParts(args[1]), Fix: fix}, &got); err != nil {
				return err
			}
			if err := c.show(got, func(w io.Writer) { writeKeyCheck(w, got) }); err != nil {
				return err
			}
			if slices.ContainsFunc(got.Keys, differs) {
				return &exitError{code: exitRefused}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&fix, "fix", false, "have the key delivered anew if they differ")
	return cmd
}

func differs(k api.CachedKey) bool {
	return k.Verdict != api.VerdictEqual && k.Verdict != api.VerdictFormatOnly
}

func writeKeyCheck(w io.Writer, got api.KeyCheck) {
	if got.Row == nil {
		fmt.Fprintln(w, "row      there is none")
	} else {
		fmt.Fprintf(w, "row      %s\n", plain(keyText(got.Row.PK)))
		columns := make([]string, 0, len(got.Row.Values))
		for name := range got.Row.Values {
			columns = append(columns, name)
		}
		slices.Sort(columns)
		for _, name := range columns {
			value := "NULL"
			if v := got.Row.Values[name]; v != nil {
				value = *v
			}
			fmt.Fprintf(w, "         %s = %s\n", plain(name), plain(value))
		}
	}
	for _, k := range got.Keys {
		fmt.Fprintf(w, "key      %s: %s\n", plain(k.Key), strings.ReplaceAll(k.Verdict, "_", " "))
		fmt.Fprintf(w, "  want   %s\n  have   %s\n", orDash(plain(k.Want)), orDash(plain(k.Have)))
		fmt.Fprintf(w, "  type   %s, %s\n", k.Type, ttlText(k.TTLMs))
		if k.Guard != nil {
			fmt.Fprintf(w, "  guard  %s: token %d, %s\n", plain(k.Guard.Key), k.Guard.Token, ttlText(k.Guard.TTLMs))
		}
	}
	if got.Pending != nil {
		fmt.Fprintln(w)
		eventTable([]api.Event{*got.Pending}).write(w)
	}
	if got.Dead != nil {
		fmt.Fprintf(w, "\ndead for %s: %s\n", span(got.Dead.AgeMs), plain(failureText(got.Dead.Failure, got.Dead.Detail)))
	}
	if got.Fixed != nil {
		fmt.Fprintf(w, "\nenqueued with token %d\n", got.Fixed.Token)
	}
}

func ttlText(ms int64) string {
	if ms < 0 {
		return "no expiry"
	}
	return "expires in " + span(uint64(ms))
}

func (c *cli) keyTimeline() *cobra.Command {
	return &cobra.Command{
		Use:   "timeline MAPPING KEY",
		Short: "Show what became of the last deliveries of a row, as the leader remembers them",
		Args:  takes(cobra.ExactArgs(2)),
		RunE:  func(cmd *cobra.Command, args []string) error { return c.showTimeline(cmd, args[0], args[1]) },
	}
}

func (c *cli) showTimeline(cmd *cobra.Command, mapping, key string) error {
	pk, err := json.Marshal(keyParts(key))
	if err != nil {
		return usage("%q is no key: %w", key, err)
	}
	var got api.KeyTimeline
	query := url.Values{"mapping": {mapping}, "pk": {string(pk)}}
	if err := c.call(cmd.Context(), http.MethodGet, withQuery("/v1/keys/timeline", query), nil, &got); err != nil {
		return err
	}
	return c.show(got, func(w io.Writer) {
		if len(got.Entries) == 0 {
			fmt.Fprintf(w, "nothing is remembered of it; the leader remembers the last %s\n", orDash(span(got.SinceMs)))
			return
		}
		t := &table{head: []string{"AGE", "WHAT", "TOKEN", "DETAIL"}}
		for _, e := range got.Entries {
			t.add(span(e.AgeMs), e.What, number(e.Token), e.Detail)
		}
		t.write(w)
	})
}
