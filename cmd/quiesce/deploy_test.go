package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

const (
	deployed = "../../deploy"
	recipes  = "../../docs/recipes.md"
)

// parsed is a command line of this program as it would be understood, or why not.
func parsed(args []string) (*cobra.Command, error) {
	c := &cli{getenv: func(string) string { return "" }, out: io.Discard, err: io.Discard}
	cmd, rest, err := c.root().Find(args)
	if err != nil {
		return nil, err
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return nil, err
	}
	if cmd.HasSubCommands() && cmd.Flags().NArg() > 0 {
		return nil, cmd.ValidateArgs(cmd.Flags().Args()) // which says that there is no such command
	}
	return cmd, nil
}

func durationOf(t *testing.T, cmd *cobra.Command, flag string) time.Duration {
	t.Helper()
	d, err := cmd.Flags().GetDuration(flag)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// container is what matters here of one in a manifest.
type container struct {
	Command   []string
	Lifecycle struct {
		PreStop struct {
			Exec struct{ Command []string }
		} `yaml:"preStop"`
	}
	ReadinessProbe *struct {
		PeriodSeconds    int `yaml:"periodSeconds"`
		FailureThreshold int `yaml:"failureThreshold"`
	} `yaml:"readinessProbe"`
}

// manifest is what matters here of one.
type manifest struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct{ Name string }
	Spec       struct {
		Replicas       int
		MaxUnavailable int                   `yaml:"maxUnavailable"`
		UpdateStrategy struct{ Type string } `yaml:"updateStrategy"`
		Template       struct {
			Spec struct {
				Grace      int `yaml:"terminationGracePeriodSeconds"`
				Containers []container
			}
		}
	}
}

func manifests(t *testing.T, name string) map[string]manifest {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(deployed, "kubernetes", name))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]manifest{}
	for decoder := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var m manifest
		if err := decoder.Decode(&m); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		if m.APIVersion == "" || m.Metadata.Name == "" {
			t.Errorf("%s: %+v", name, m)
		}
		all[m.Kind] = m
	}
}

// The numbers of a manifest hang together: Kubernetes must not kill what still drains, nor send traffic to what has stopped serving, and the two
// budgets must be the same.
func TestDeploy_KubernetesGivesADrainItsTime(t *testing.T) {
	t.Parallel()
	for name, kind := range map[string]string{"orders.yaml": "StatefulSet", "worker.yaml": "Deployment"} {
		all := manifests(t, name)
		workload := all[kind]
		if kind == "StatefulSet" && workload.Spec.UpdateStrategy.Type != "OnDelete" {
			t.Errorf("%s: pods are replaced without a ticket", name)
		}
		pod := workload.Spec.Template.Spec
		c := pod.Containers[0]
		run, err := parsed(c.Command[1:])
		if err != nil || run.Name() != "run" {
			t.Fatalf("%s: %v: %v", name, c.Command, err)
		}
		needs := durationOf(t, run, "grace")
		if hook := c.Lifecycle.PreStop.Exec.Command; len(hook) > 0 {
			words := strings.Fields(strings.ReplaceAll(hook[2], `"`, ""))
			drain, err := parsed(words[1:])
			if err != nil || drain.Name() != "drain" {
				t.Fatalf("%s: %v: %v", name, words, err)
			}
			needs += durationOf(t, drain, "within")
		}
		if gives := time.Duration(pod.Grace) * time.Second; gives <= needs {
			t.Errorf("%s: a pod needs %s to stop, and has %s", name, needs, gives)
		}
		if p := c.ReadinessProbe; p != nil {
			if turns := time.Duration(p.PeriodSeconds*(p.FailureThreshold+1)) * time.Second; turns > durationOf(t, run, "lame-duck") {
				t.Errorf("%s: the probe turns after %s, which is after the lame duck", name, turns)
			}
		}
		budget, err := parsed(all["Job"].Spec.Template.Spec.Containers[0].Command[1:])
		if err != nil {
			t.Fatal(err)
		}
		if got, want := budget.Flag("max-unavailable").Value.String(), fmt.Sprint(all["PodDisruptionBudget"].Spec.MaxUnavailable); got != want {
			t.Errorf("%s: the cluster's budget is %s, that of evictions %s", name, got, want)
		}
		if got, want := budget.Flag("replicas").Value.String(), fmt.Sprint(workload.Spec.Replicas); got != want {
			t.Errorf("%s: %s replicas are declared, %s run", name, got, want)
		}
	}
}

// unit reads the settings of a unit of systemd.
func unit(t *testing.T, name string) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(deployed, "systemd", name))
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		if key, value, is := strings.Cut(strings.TrimSpace(line), "="); is && !strings.HasPrefix(key, "#") {
			settings[key] = append(settings[key], value)
		}
	}
	return settings
}

func TestDeploy_SystemdGivesADrainItsTime(t *testing.T) {
	t.Parallel()
	app := unit(t, "orders@.service")
	words := strings.Fields(app["ExecStart"][0])
	run, err := parsed(words[1:])
	if err != nil || run.Name() != "run" {
		t.Fatal(err)
	}
	stop, err := time.ParseDuration(app["TimeoutStopSec"][0])
	if grace := durationOf(t, run, "grace"); err != nil || stop <= grace {
		t.Errorf("a drain has %s, and systemd kills after %s", grace, stop)
	}
	if app["KillMode"][0] != "mixed" || app["Restart"][0] != "always" || app["Type"][0] != "notify" {
		t.Errorf("%v", app)
	}
	node := unit(t, "quiesce-node.service")
	needs := time.Duration(0)
	for _, v := range node["Environment"] {
		if _, text, is := strings.Cut(v, "="); is && strings.Contains(v, "QUORUM_WAIT") || strings.Contains(v, "SHUTDOWN_TIMEOUT") {
			d, err := time.ParseDuration(text)
			if err != nil {
				t.Fatal(err)
			}
			needs += d
		}
	}
	if stop, err = time.ParseDuration(node["TimeoutStopSec"][0]); err != nil || needs == 0 || stop <= needs {
		t.Errorf("a node needs %s to stop, and systemd kills it after %s", needs, stop)
	}
}

func TestDeploy_SystemdUnderstandsTheUnits(t *testing.T) {
	t.Parallel()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze here")
	}
	dir := t.TempDir()
	for _, name := range []string{"orders@.service", "quiesce-node.service"} {
		text, err := os.ReadFile(filepath.Join(deployed, "systemd", name))
		if err != nil {
			t.Fatal(err)
		}
		// What is not installed here cannot be verified, so that another program stands in for it.
		text = regexp.MustCompile(`(?m)^ExecStart=\S+`).ReplaceAll(text, []byte("ExecStart=/bin/sh"))
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", path).CombinedOutput(); err != nil || strings.Contains(string(out), name) {
			t.Errorf("%v: %s", err, out)
		}
	}
}

func TestDeploy_ScriptsAreScripts(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"pipeline/rollout.sh", "kubernetes/roll.sh"} {
		path := filepath.Join(deployed, name)
		if out, err := exec.CommandContext(t.Context(), "sh", "-n", path).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", name, err, out)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o100 == 0 {
			t.Errorf("%s cannot be run: %v", name, err)
		}
	}
	text, err := os.ReadFile(filepath.Join(deployed, "pipeline", "github.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var job struct {
		Jobs map[string]struct {
			Minutes int               `yaml:"timeout-minutes"`
			Env     map[string]string `yaml:"env"`
		}
	}
	if err := yaml.Unmarshal(text, &job); err != nil {
		t.Fatal(err)
	}
	rollout := job.Jobs["rollout"]
	if deadline, err := time.ParseDuration(rollout.Env["DEADLINE"]); err != nil || time.Duration(rollout.Minutes)*time.Minute <= deadline {
		t.Errorf("the job ends before the plan's deadline: %+v: %v", rollout, err)
	}
}

// A line of its own, or the first words in a cell of a table.
var commandLine = regexp.MustCompile("(?m)(?:^ *(?:\\$ |bin/)?|\\| `)(quiesce [a-z][^`\\n]*)")

// Every line of the documents and of the scripts that begins with quiesce is understood by this version.
func TestDeploy_CommandLinesInDocumentsAreUnderstood(t *testing.T) {
	t.Parallel()
	seen := 0
	for _, path := range []string{recipes, "../../README.md", "../../docs/cli.md", "../../docs/operations.md", filepath.Join(deployed, "pipeline/rollout.sh"), filepath.Join(deployed, "kubernetes/roll.sh")} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		joined := strings.ReplaceAll(string(text), "\\\n", " ")
		for _, found := range commandLine.FindAllStringSubmatch(strings.ReplaceAll(joined, "\t", " "), -1) {
			seen++
			if _, err := parsed(wordsOf(found[1])[1:]); err != nil {
				t.Errorf("%s: %s: %v", path, found[1], err)
			}
		}
	}
	if seen < 15 {
		t.Errorf("only %d lines were looked at", seen)
	}
}

// wordsOf takes a line of a shell apart, as far as examples go: quotes, and the end where another command or a comment begins.
func wordsOf(line string) []string {
	var words []string
	for _, m := range regexp.MustCompile(`"[^"]*"|'[^']*'|\S+`).FindAllString(line, -1) {
		if slices.Contains([]string{"#", "|", "||", "&&", ">", ";"}, m) {
			break
		}
		if text, err := strconv.Unquote(m); err == nil {
			m = text
		}
		if m = strings.Trim(m, "'"); strings.HasPrefix(m, "$") {
			m = "1m" // a variable: fits wherever one is used
		}
		words = append(words, m)
	}
	return words
}
