package cluster_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quiescehq/quiesce/cluster_test/harness"
)

const (
	refuseWithin = 20 * time.Second
	devWithin    = 10 * time.Second // of a loaded machine with the race detector; it takes far less, see the log
)

// refused runs the binary, which must end by itself with a code and say one sentence that holds every one of some words.
func refused(t *testing.T, code int, words []string, arguments ...string) {
	t.Helper()
	p := harness.Launch(t, filepath.Join(t.TempDir(), "log"), arguments...)
	if got := p.Wait(t, refuseWithin); got != code {
		t.Errorf("exit code %d instead of %d:\n%s", got, code, p.Output())
	}
	var said []string
	for line := range strings.Lines(p.Output()) {
		if strings.HasPrefix(line, "quiesce-node: ") {
			said = append(said, line)
		}
	}
	if len(said) != 1 {
		t.Fatalf("said %d sentences instead of one:\n%s", len(said), p.Output())
	}
	for _, word := range words {
		if !strings.Contains(said[0], word) {
			t.Errorf("the sentence does not name %q: %s", word, said[0])
		}
	}
	if strings.Contains(p.Output(), "goroutine ") {
		t.Errorf("a stack trace is no sentence:\n%s", p.Output())
	}
}

func TestStart_WrongUseIsRefusedWithOneSentence(t *testing.T) {
	dir := t.TempDir()
	file := func(text string) string {
		path := filepath.Join(dir, fmt.Sprintf("%d.yaml", len(text)))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	peer, api := harness.FreeAddr(t), harness.FreeAddr(t)
	good := fmt.Sprintf("node_id: n1\ndata_dir: %q\nhttp_addr: %s\npeer_addr: %s\nexpect: [{id: n1, peer_addr: %q}]\n", filepath.Join(dir, "n1"), api, peer, peer)
	for name, tc := range map[string]struct {
		words     []string
		arguments []string
	}{
		"unknown flag":         {[]string{"-colour"}, []string{"-colour", "red"}},
		"stray argument":       {[]string{"serve"}, []string{"-dev", "serve"}},
		"no such file":         {[]string{"absent.yaml"}, []string{"-config", filepath.Join(dir, "absent.yaml")}},
		"unknown key":          {[]string{"colour"}, []string{"-config", file(good + "colour: red\n")}},
		"not YAML":             {[]string{".yaml"}, []string{"-config", file(good + "{{{")}},
		"no data folder":       {[]string{"data_dir"}, []string{"-config", file(strings.ReplaceAll(good, "data_dir", "#"))}},
		"wrong duration":       {[]string{"-drain-delay", "soon"}, []string{"-config", file(good), "-drain-delay", "soon"}},
		"wrong log store":      {[]string{"log_store", "tape"}, []string{"-config", file(good), "-log-store", "tape"}},
		"address without port": {[]string{"http_addr"}, []string{"-config", file(good), "-http-addr", "localhost"}},
		"any address":          {[]string{"http_addr", "0.0.0.0"}, []string{"-config", file(good), "-http-addr", "0.0.0.0:7400"}},
		"expects only others":  {[]string{"expect", "n2"}, []string{"-config", file(good), "-node-id", "n2"}},
		"dev off loopback":     {[]string{"-dev", "loopback"}, []string{"-dev", "-http-addr", "192.0.2.1:7400"}},
		"dev with a folder":    {[]string{"-dev", "data_dir"}, []string{"-dev", "-data-dir", dir}},
		"source without DSN":   {[]string{"main", "dsn"}, []string{"-config", file(good + "sources: {main: {}}\n")}},
		"DSN that is none":     {[]string{"main"}, []string{"-config", file(good + "sources: {main: {dsn: 'mysql://root@db'}}\n")}},
	} {
		t.Run(name, func(t *testing.T) { refused(t, 64, tc.words, tc.arguments...) })
	}
	if _, err := os.Stat(filepath.Join(dir, "n1")); err == nil {
		t.Error("a refused start has made a data folder")
	}
}

func TestStart_TakenAddressIsNamed(t *testing.T) {
	for _, key := range []string{"http-addr", "peer-addr"} {
		t.Run(key, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = listener.Close() }()
			taken := listener.Addr().String()
			refused(t, 69, []string{taken}, "-dev", "-http-addr", harness.FreeAddr(t), "-"+key, taken)
		})
	}
}

// single is a cluster of one whose node has written something and stopped.
func single(t *testing.T) (*harness.Cluster, *harness.Node) {
	t.Helper()
	c := harness.Start(t, harness.Options{Nodes: 1})
	openSession(c, longSession)
	return c, c.Nodes[0]
}

func TestStart_SecondNodeOnOneFolderIsRefused(t *testing.T) {
	c, n := single(t)
	refused(t, 69, []string{n.Dir, fmt.Sprint(n.PID())}, "-config", n.Config(), "-http-addr", harness.FreeAddr(t))
	openSession(c, longSession) // the first goes on
}

func TestStart_FolderThatIsNotThisNodesIsRefused(t *testing.T) {
	_, n := single(t)
	n.Kill()
	refused(t, 78, []string{"n1", "n2"}, "-config", n.Config(), "-node-id", "n2", "-expect", "n2="+n.PeerAddr)
	refused(t, 78, []string{"boltdb", "wal"}, "-config", n.Config(), "-log-store", "boltdb")
	n.Start() // neither attempt has harmed it
	n.AwaitOutput("serving", refuseWithin)
}

func TestStart_DamagedSnapshotIsRefusedWithTheRemedy(t *testing.T) {
	_, n := single(t)
	n.Kill()
	snapshot := filepath.Join(n.Dir, "raft", "snapshots", "9-1000000-1700000000000")
	if err := os.Mkdir(snapshot, 0o700); err != nil { // in a folder that the node made
		t.Fatal(err)
	}
	for _, name := range []string{"meta.json", "state.bin"} {
		if err := os.WriteFile(filepath.Join(snapshot, name), []byte("{torn"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	refused(t, 78, []string{"snapshot", "DELETE /v1/cluster/nodes/"}, "-config", n.Config())
}

func TestStart_FolderThatCannotBeIsRefused(t *testing.T) {
	dir := t.TempDir()
	blocked := filepath.Join(dir, "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	addr := harness.FreeAddr(t)
	p := harness.Launch(t, filepath.Join(dir, "log"), "-node-id", "n1", "-data-dir", blocked, "-http-addr", harness.FreeAddr(t), "-peer-addr", addr, "-expect", "n1="+addr)
	if code := p.Wait(t, refuseWithin); code == 0 || code == -1 || !strings.Contains(p.Output(), blocked) {
		t.Errorf("exit code %d:\n%s", code, p.Output())
	}
}

func TestStart_DevNodeIsReadyAtOnceAndStopsCleanly(t *testing.T) {
	addr := harness.FreeAddr(t)
	began := time.Now()
	p := harness.Launch(t, filepath.Join(t.TempDir(), "log"), "-dev", "-http-addr", addr)
	harness.Eventually(t, devWithin, "the node to be ready", func() error {
		response, err := http.Get("http://" + addr + "/readyz")
		if err != nil {
			return err
		}
		defer func() { _ = response.Body.Close() }()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("readyz answers %d", response.StatusCode)
		}
		return nil
	})
	t.Logf("ready after %s", time.Since(began).Round(time.Millisecond))
	if err := p.Signal(termSignal); err != nil {
		t.Fatal(err)
	}
	if code := p.Wait(t, refuseWithin); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.Output())
	}
}

func TestTerm_SecondSignalEndsAtOnce(t *testing.T) {
	c := harness.Start(t, harness.Options{Settings: map[string]string{"drain_delay": "20s"}})
	n := c.Follower()
	n.Term()
	n.AwaitOutput("stopping", refuseWithin)
	began := time.Now()
	n.Term()
	if code := n.Wait(); code != 128+int(termSignal) {
		t.Errorf("exit code %d", code)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("ended after %s", took)
	}
	n.Start()
	c.AwaitReady(n)
	c.AwaitWhole()
}
