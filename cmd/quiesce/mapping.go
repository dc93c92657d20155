package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/quiescehq/quiesce/api"
)

func (c *cli) mappingCommand() *cobra.Command {
	return group("mapping", "Rules from MySQL rows to Redis keys", c.mappingLs(), c.mappingShow(), c.mappingCheck(), c.mappingApply(), c.mappingRm())
}

func (c *cli) mappingLs() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List mappings",
		Args:  takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			list := api.Mappings{Mappings: []api.Mapping{}}
			more, err := c.pages(cmd.Context(), "/v1/mappings", url.Values{}, all, func(get func(any) error) (api.Page, error) {
				var page api.Mappings
				err := get(&page)
				list.Page, list.Mappings = page.Page, append(list.Mappings, page.Mappings...)
				return page.Page, err
			})
			if err != nil {
				return err
			}
			defer c.hint(more)
			return c.show(list, func(w io.Writer) {
				t := &table{head: []string{"MAPPING", "REVISION", "FROM", "TO", "KEY", "MODE", "PENDING", "DEAD"}}
				for _, m := range list.Mappings {
					s := mappingSummary(m.Spec)
					t.add(m.Name, number(m.Revision), s.Source+"/"+s.Table, s.Target, s.key(), s.Mode, fmt.Sprint(m.Pending), fmt.Sprint(m.Dead))
				}
				t.write(w)
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "all of them, not only the first page")
	return cmd
}

// summary is what a list shows of a specification.
type summary struct {
	Source, Table, Target, Key, Mode string
	Keys                             []string
}

func (s summary) key() string {
	if s.Key == "" && len(s.Keys) > 0 {
		return fmt.Sprintf("%s and %d more", s.Keys[0], len(s.Keys)-1)
	}
	return s.Key
}

func mappingSummary(spec json.RawMessage) (s summary) {
	_ = json.Unmarshal(spec, &s) // what a newer version put there is shown as far as it is understood
	return s
}

func (c *cli) mappingShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME",
		Short: "Show a mapping as it was declared",
		Args:  takes(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var m api.Mapping
			if err := c.call(cmd.Context(), http.MethodGet, "/v1/mappings/"+url.PathEscape(args[0]), nil, &m); err != nil {
				return err
			}
			return c.show(m, func(w io.Writer) {
				fmt.Fprintf(w, "# %s, revision %d, %d pending, %d dead\n", m.Name, m.Revision, m.Pending, m.Dead)
				text, err := toYAML(m.Spec)
				if err != nil {
					text = m.Spec
				}
				fmt.Fprintf(w, "%s", text)
			})
		},
	}
}

func (c *cli) mappingCheck() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "check NAME [-f FILE]",
		Short: "Find out whether a mapping can be right: columns, indexes, grants, the target's eviction, a sample",
		Long: `Find out whether a mapping can be right: that of a file, or the one that the cluster has. Nothing is changed.
Exit code 1 says that it would be refused.`,
		Args: takes(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var spec any
			if file != "" {
				read, err := readSpec(file)
				if err != nil {
					return err
				}
				spec = read
			}
			var got api.MappingCheck
			if err := c.post(cmd.Context(), "/v1/mappings/"+url.PathEscape(args[0])+"/check", spec, &got); err != nil {
				return err
			}
			if err := c.show(got, func(w io.Writer) { writeMappingCheck(w, got) }); err != nil {
				return err
			}
			if !got.OK {
				return &exitError{code: exitRefused}
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "the specification, in YAML or JSON; - is standard input")
	return cmd
}

func writeMappingCheck(w io.Writer, got api.MappingCheck) {
	verdict := "it can be declared"
	if !got.OK {
		verdict = "it would be refused"
	}
	fmt.Fprintln(w, verdict)
	if len(got.Findings) > 0 {
		fmt.Fprintln(w)
		t := &table{head: []string{"LEVEL", "FIELD", "FINDING"}}
		for _, f := range got.Findings {
			t.add(f.Level, f.Field, f.Reason)
		}
		t.write(w)
	}
	if got.Explain != "" {
		fmt.Fprintf(w, "\nrows are read by: %s\n", plain(got.Explain))
	}
	if s := got.Sample; s != nil {
		fmt.Fprintf(w, "\na row, %s, becomes\n", plain(keyText(s.PK)))
		for _, key := range s.Keys {
			fmt.Fprintf(w, "  %s\n", plain(key))
		}
		if s.Value != "" {
			fmt.Fprintf(w, "  = %s\n", plain(s.Value))
		}
	}
}

func (c *cli) mappingApply() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "apply NAME -f FILE",
		Short: "Declare or change a mapping",
		Args:  takes(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if file == "" {
				return usage("apply needs -f, the file with the specification")
			}
			spec, err := readSpec(file)
			if err != nil {
				return err
			}
			var put api.MappingVersion
			if err := c.call(cmd.Context(), http.MethodPut, "/v1/mappings/"+url.PathEscape(args[0]), spec, &put); err != nil {
				return err
			}
			return c.show(put, func(w io.Writer) { fmt.Fprintf(w, "%s has revision %d\n", put.Name, put.Revision) })
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "the specification, in YAML or JSON; - is standard input")
	return cmd
}

// readSpec reads YAML, of which JSON is a part.
func readSpec(file string) (any, error) {
	in := io.Reader(os.Stdin)
	if file != "-" {
		opened, err := os.Open(file)
		if err != nil {
			return nil, usage("%w", err)
		}
		defer opened.Close()
		in = opened
	}
	text, err := io.ReadAll(io.LimitReader(in, api.SpecBytesMax+1))
	switch {
	case err != nil:
		return nil, usage("%s: %w", file, err)
	case len(text) > api.SpecBytesMax:
		return nil, usage("%s: a specification has at most %d bytes", file, api.SpecBytesMax)
	}
	var spec map[string]any
	if err := yaml.Unmarshal(text, &spec); err != nil {
		return nil, usage("%s: %w", file, err)
	}
	if len(spec) == 0 {
		return nil, usage("%s: no specification in it", file)
	}
	return spec, nil
}

func (c *cli) mappingRm() *cobra.Command {
	return &cobra.Command{
		Use:   "rm NAME",
		Short: "Forget a mapping that has no pending events; its keys stay in the cache",
		Args:  takes(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.call(cmd.Context(), http.MethodDelete, "/v1/mappings/"+url.PathEscape(args[0]), nil, nil); err != nil {
				return err
			}
			return c.done("%s is forgotten", args[0])
		},
	}
}
