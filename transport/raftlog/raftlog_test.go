package raftlog

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestNew_CarriesLevelsNamesAndPairs(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	logger := New(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	logger.Named("snapshot").Error("cannot write", "index", 7)
	logger.With("peer", "n2").Warn("slow")
	logger.Info("detail")
	for _, want := range []string{
		`level=ERROR msg="cannot write" part=snapshot index=7`, "level=WARN msg=slow peer=n2", "level=DEBUG msg=detail",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, out.String())
		}
	}
}
