package main

import (
	"fmt"
	"io"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// release is set by the linker in a release; a build from a checkout shows its revision.
var release = "0.1.0-dev"

const revisionShown = 12

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return release
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= revisionShown {
			return release + "+" + s.Value[:revisionShown]
		}
	}
	return release
}

func (c *cli) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version of this program; status shows those of the nodes",
		Args:  takes(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return c.show(map[string]string{"version": version()}, func(w io.Writer) { fmt.Fprintln(w, "quiesce", version()) })
		},
	}
}
