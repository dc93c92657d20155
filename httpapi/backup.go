package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gin-gonic/gin"

	"github.com/quiescehq/quiesce/api"
	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/replica"
)

const (
	backupPath  = "/v1/cluster/backup"
	restorePath = "/v1/cluster/restore"
	// A stream may take as long as it moves: this long for one read or write, which is a megabyte at most.
	streamStallMax = 30 * time.Second
)

// Backups reads and replaces the whole replicated state. Errors are as those of Replica: Backup's mean that nothing was read, and of
// Restore's an ErrNotApplied and a *RefusedError that nothing has changed.
type Backups interface {
	Backup(ctx context.Context) (Backup, error)
	Restore(ctx context.Context, stream io.Reader, dryRun bool, act fsm.Act) (api.Restored, error)
}

// Backup is the state of one moment, which can be written while the cluster goes on.
type Backup interface {
	Info() api.BackupInfo
	Write(w io.Writer) error
}

// OverBackups lets the edge use those of a replica.Replica.
func OverBackups(r *replica.Replica) Backups { return backups{r} }

type backups struct{ *replica.Replica }

type backup struct{ *replica.Backup }

func (b backup) Info() api.BackupInfo { return backupInfo(b.BackupHeader) }

func backupInfo(h fsm.BackupHeader) api.BackupInfo {
	return api.BackupInfo{Cluster: h.Cluster, NowMs: h.NowMs, Revision: h.Revision, Token: h.Token, Digest: h.Digest}
}

func (b backups) Backup(ctx context.Context) (Backup, error) {
	taken, err := b.Replica.Backup(ctx)
	if err != nil {
		return nil, translated(err)
	}
	return backup{taken}, nil
}

func (b backups) Restore(ctx context.Context, stream io.Reader, dryRun bool, act fsm.Act) (api.Restored, error) {
	r, err := b.Replica.Restore(ctx, stream, replica.RestoreOptions{DryRun: dryRun, Act: act})
	return api.Restored{DryRun: dryRun, Index: r.Revision, Token: r.Token, Backup: backupInfo(r.Of),
		Sessions: r.Sessions, Locks: r.Locks, Events: r.Events}, translated(err)
}

// download registers a route that answers a stream of bytes.
func download(s *Server, path, id string, handler func(context.Context, *struct{}) (*huma.StreamResponse, error)) {
	op := s.spec(get, path, id)
	op.Responses["200"] = &huma.Response{Description: "A backup", Content: map[string]*huma.MediaType{api.ContentBackup: {Schema: octets()}}}
	huma.Register(s.huma, op, handler)
}

// upload registers a route whose body is a stream of bytes, which neither the edge nor huma reads ahead: see uploading.
func upload[I, O any](s *Server, path, id string, handler func(context.Context, *I) (*O, error)) {
	op := s.spec(post, path, id)
	op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{api.ContentBackup: {Schema: octets()}}}
	huma.Register(s.huma, op, handler)
}

func octets() *huma.Schema { return &huma.Schema{Type: huma.TypeString, Format: "binary"} }

var noBackups = problem(api.CodeNotFound, "this server keeps no backups")

func (s *Server) backup(ctx context.Context, _ *struct{}) (*huma.StreamResponse, error) {
	if s.cfg.Backups == nil {
		return nil, noBackups
	}
	b, err := s.cfg.Backups.Backup(ctx)
	if err != nil {
		return nil, unread(err)
	}
	info := b.Info()
	return &huma.StreamResponse{Body: func(c huma.Context) {
		c.SetHeader("Content-Type", api.ContentBackup)
		c.SetHeader("Content-Disposition", fmt.Sprintf("attachment; filename=\"quiesce-%s-%d.backup\"", info.Cluster, info.Revision))
		c.SetHeader(api.HeaderIndex, fmt.Sprint(info.Revision))
		w := exchangeOf(ctx).gin.Writer
		if err := b.Write(&moving{w: w, rc: http.NewResponseController(w)}); err != nil {
			s.log.WarnContext(ctx, "backup cut short", "err", err)
			panic(http.ErrAbortHandler) // the reader must not take it for whole, even if it does not check
		}
	}}, nil
}

// moving lets a write take its time as long as the reader takes something.
type moving struct {
	w  io.Writer
	rc *http.ResponseController
}

func (m *moving) Write(b []byte) (int, error) {
	_ = m.rc.SetWriteDeadline(time.Now().Add(streamStallMax)) // recorders of tests have no deadline to set
	return m.w.Write(b)
}

// Restoring is the query of a restore.
type Restoring struct {
	DryRun bool   `query:"dry_run" doc:"Read and check the backup, say what it holds, change nothing"`
	Reason string `query:"reason" maxLength:"256" doc:"For the audit"`
	By     string `query:"by" maxLength:"256" doc:"For the audit"`
}

// restore has no idempotency key: the second time it restores again. What a lost answer leaves open can be seen in the audit.
func (s *Server) restore(ctx context.Context, in *Restoring) (*answer[api.Restored], error) {
	if s.cfg.Backups == nil {
		return nil, noBackups
	}
	body, ok := exchangeOf(ctx).gin.Request.Body.(*uploaded)
	if !ok {
		return nil, problem(api.CodeBackupDamaged, "the request has no body; send the backup as "+api.ContentBackup)
	}
	out, err := s.cfg.Backups.Restore(ctx, body, in.DryRun, fsm.Act{WallMs: wallMs(), Action: "cluster.restore", By: in.By, Reason: in.Reason})
	var refused *RefusedError
	switch {
	case err == nil:
		return &answer[api.Restored]{Status: http.StatusOK, Index: out.Index, Body: out}, nil
	case body.tooLarge():
		return nil, overLimit(api.CodeBodyTooLarge, "the backup is too large", api.BackupBytesMax)
	case errors.As(err, &refused), errors.Is(err, ErrNotApplied), errors.Is(err, ErrNoLeader):
		return nil, outcomeOf(err)
	}
	s.log.ErrorContext(ctx, "the outcome of a restore is unknown", "err", err)
	return nil, problem(api.CodeOutcomeUnknown, "whether the backup was restored is not known yet: GET /v1/audit shows it when it was")
}

// uploading tells whether the body of a request is for its handler to read.
func uploading(c *gin.Context) bool { return c.FullPath() == restorePath && c.Request.Method == post }

// takeUpload prepares such a body. It is forwarded as it comes, and bounded where it arrives and where it is read.
func (s *Server) takeUpload(c *gin.Context) *refusal {
	r := c.Request
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return nil
	}
	if media, _, err := mime.ParseMediaType(c.GetHeader("Content-Type")); err != nil || media != api.ContentBackup {
		return problem(api.CodeMediaType, "send the backup as "+api.ContentBackup)
	}
	if r.ContentLength > api.BackupBytesMax {
		return overLimit(api.CodeBodyTooLarge, fmt.Sprintf("the body has %d bytes", r.ContentLength), api.BackupBytesMax)
	}
	rc := http.NewResponseController(c.Writer)
	_ = rc.SetWriteDeadline(time.Time{}) // the answer comes after the body, whenever that is; the handler has bounds of its own
	r.Body = &uploaded{ReadCloser: http.MaxBytesReader(c.Writer, r.Body, api.BackupBytesMax), rc: rc}
	return nil
}

// uploaded is a body that may take its time as long as it moves.
type uploaded struct {
	io.ReadCloser
	rc  *http.ResponseController
	err error
}

func (u *uploaded) Read(b []byte) (int, error) {
	_ = u.rc.SetReadDeadline(time.Now().Add(streamStallMax))
	n, err := u.ReadCloser.Read(b)
	if err != nil {
		u.err = err
		_ = u.rc.SetReadDeadline(time.Time{}) // see readBody
	}
	return n, err
}

func (u *uploaded) tooLarge() bool {
	var limit *http.MaxBytesError
	return errors.As(u.err, &limit)
}
