package httpapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
)

// keeper is a Backups that gives out and takes a text.
type keeper struct {
	text, restored string
	act            fsm.Act
	err            error // of Restore, after the stream was read
	cut            error // of Write, in the middle
}

func (k *keeper) Backup(context.Context) (Backup, error) { return k, nil }
func (k *keeper) Info() api.BackupInfo                   { return api.BackupInfo{Cluster: "c1", Revision: 7} }

func (k *keeper) Write(w io.Writer) error {
	if _, err := io.WriteString(w, k.text); err != nil {
		return err
	}
	return k.cut
}

func (k *keeper) Restore(_ context.Context, stream io.Reader, dryRun bool, act fsm.Act) (api.Restored, error) {
	b, err := io.ReadAll(stream)
	if err != nil {
		return api.Restored{}, errors.Join(&RefusedError{Code: "backup_damaged", Detail: "cut"}, err)
	}
	k.restored, k.act = string(b), act
	return api.Restored{DryRun: dryRun, Index: 9}, k.err
}

func newEdgeWith(t *testing.T, k *keeper) *edge {
	e := newEdge(t)
	e.cfg.Backups = k
	return e
}

var asBackup = []string{"Content-Type", api.ContentBackup}

// The body is ten times what the edge takes of JSON, and goes through a follower.
func TestRestore_LargeStreamGoesThroughAFollowerToTheLeader(t *testing.T) {
	t.Parallel()
	k := &keeper{text: strings.Repeat("x", 10*api.BodyBytesMax)}
	lead := newEdgeWith(t, k)
	leader := httptest.NewServer(lead.Handler())
	defer leader.Close()
	follower := newEdge(t)
	follower.rep.leader.Store(&Leader{ID: "n1", HTTPAddr: leader.Listener.Addr().String()})
	front := httptest.NewServer(follower.Handler())
	defer front.Close()

	got, err := http.Get(front.URL + backupPath)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	if disposition := got.Header.Get("Content-Disposition"); !strings.Contains(disposition, "quiesce-c1-7.backup") || got.Header.Get(api.HeaderIndex) != "7" {
		t.Errorf("headers %v", got.Header)
	}
	answer, err := http.Post(front.URL+restorePath+"?dry_run=true&by=me&reason=test", api.ContentBackup, got.Body)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK || k.restored != k.text {
		t.Errorf("status %d, %d bytes of %d", answer.StatusCode, len(k.restored), len(k.text))
	}
	if k.act.Action != "cluster.restore" || k.act.By != "me" || k.act.Reason != "test" || k.act.WallMs == 0 {
		t.Errorf("for the audit: %+v", k.act)
	}
}

// A backup that breaks off must not look whole, not even to who does not check it.
func TestBackup_CutShortEndsTheConnection(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(newEdgeWith(t, &keeper{text: "half", cut: errors.New("broken")}).Handler())
	defer server.Close()
	got, err := http.Get(server.URL + backupPath)
	if err == nil {
		_, err = io.ReadAll(got.Body)
		got.Body.Close()
	}
	if err == nil {
		t.Error("the end looks like any other")
	}
}

func TestRestore_RefusalsHaveCodes(t *testing.T) {
	t.Parallel()
	k := &keeper{}
	e := newEdgeWith(t, k)
	for name, tc := range map[string]struct {
		err    error
		header []string
		code   api.Code
	}{
		"json":     {nil, nil, api.CodeMediaType},
		"damaged":  {&RefusedError{Code: "backup_damaged"}, asBackup, api.CodeBackupDamaged},
		"deposed":  {ErrNotApplied, asBackup, api.CodeNotApplied},
		"unheard":  {errors.New("?"), asBackup, api.CodeOutcomeUnknown},
		"accepted": {nil, asBackup, ""},
	} {
		k.err = tc.err
		r := e.do(post, restorePath, "{}", tc.header...)
		if tc.code == "" {
			into[api.Restored](t, r)
		} else if p := r.problem(t); p.Code != tc.code {
			t.Errorf("%s: %+v", name, p)
		}
	}
	if p := e.do(post, restorePath, "", asBackup...).problem(t); p.Code != api.CodeBackupDamaged {
		t.Errorf("no body: %+v", p)
	}
	if p := newEdge(t).do(get, backupPath, "").problem(t); p.Code != api.CodeNotFound {
		t.Errorf("without backups: %+v", p)
	}
}

func TestRestore_BodyIsBounded(t *testing.T) {
	t.Parallel()
	k := &keeper{}
	e := newEdgeWith(t, k)
	for name, length := range map[string]int64{"announced": api.BackupBytesMax + 1, "chunked": -1} {
		if name == "chunked" && testing.Short() {
			continue // it reads a gigabyte
		}
		e.cfg.Backups = drain{k}
		r := httptest.NewRequest(post, restorePath, zeros{})
		r.ContentLength = length
		r.Header.Set("Content-Type", api.ContentBackup)
		w := httptest.NewRecorder()
		e.Handler().ServeHTTP(w, r)
		p := reply{w.Code, w.Result().Header, w.Body.Bytes()}.problem(t)
		if p.Code != api.CodeBodyTooLarge || p.Limit != api.BackupBytesMax {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

// drain keeps nothing of what it reads.
type drain struct{ *keeper }

func (drain) Restore(_ context.Context, stream io.Reader, _ bool, _ fsm.Act) (api.Restored, error) {
	_, err := io.Copy(io.Discard, stream)
	return api.Restored{}, errors.Join(&RefusedError{Code: "backup_damaged"}, err)
}
