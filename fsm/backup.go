package fsm

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
)

// Errors of a backup. Nothing is changed by any of them.
var (
	// ErrDamagedBackup: the bytes are not what was written, or not all of it. The cause is in the chain.
	ErrDamagedBackup = errors.New("fsm: damaged backup")
	// ErrNewerBackup: a newer version wrote it, and this one would lose what it does not know.
	ErrNewerBackup = errors.New("fsm: backup of a newer version")
	// ErrTokensExhausted: after the jump of a restore a counter would no longer be exact as a JSON number.
	ErrTokensExhausted = errors.New("fsm: the counters have no room for a restore")
)

// RestoreTokenJump is how far a restore moves the token counter. What the backup does not know of was given after it was taken: in the
// present state, whose counter is seen, or by a cluster that is lost, whose counter is not. No cluster gives 2^32 tokens between backups.
const RestoreTokenJump = 1 << 32

// A backup is: a line with its format, a line of JSON (BackupHeader), a snapshot, and the SHA-256 of all that precedes, 32 bytes. So
// anybody can look at it and check it without this package.
const (
	backupFormat       = "QUIESCE BACKUP 1\n"
	backupFormatPrefix = "QUIESCE BACKUP "
	backupLineMax      = 4 << 10
	// backupLevel rises when rows gain a field, since an older version would not know what it drops.
	backupLevel = 5
)

// BackupHeader says what a backup holds.
type BackupHeader struct {
	Cluster  string `json:"cluster"`  // id of the cluster that it was taken of
	Level    int    `json:"level"`    // of the rows, see ErrNewerBackup
	Sections int    `json:"sections"` // of the snapshot
	NowMs    uint64 `json:"now_ms"`   // cluster time
	Revision uint64 `json:"revision"`
	Token    uint64 `json:"token"` // last one given
	Digest   string `json:"digest"`
}

// BackupHeader describes the backup that WriteBackup writes.
func (s *State) BackupHeader(cluster string) BackupHeader {
	return BackupHeader{Cluster: cluster, Level: backupLevel, Sections: len(s.sections()), NowMs: s.counters.Now,
		Revision: s.counters.Revision, Token: s.counters.Token, Digest: s.Digest().String()}
}

// WriteBackup writes a Clone. It runs beside Apply on the State that was cloned.
func (s *State) WriteBackup(w io.Writer, cluster string) error {
	header, err := json.Marshal(s.BackupHeader(cluster))
	if err != nil {
		return err
	}
	sum := sha256.New()
	out := io.MultiWriter(w, sum)
	if _, err := out.Write(append([]byte(backupFormat), append(header, '\n')...)); err != nil {
		return err
	}
	if err := s.WriteSnapshot(out); err != nil {
		return err
	}
	_, err = w.Write(sum.Sum(nil))
	return err
}

// ReadBackup builds the state that a backup holds, when every byte of it is as it was written.
func ReadBackup(r io.Reader) (*State, BackupHeader, error) {
	body := &summedBody{r: bufio.NewReaderSize(r, snapshotBuffer), sum: sha256.New()}
	s, header, err := readBackup(body)
	switch {
	case errors.Is(err, ErrNewerBackup):
		return nil, header, err
	case body.failed != nil:
		return nil, header, fmt.Errorf("%w: %w", ErrDamagedBackup, body.failed)
	case err != nil:
		return nil, header, fmt.Errorf("%w: %w", ErrDamagedBackup, err)
	}
	return s, header, nil
}

// snapshotBuffer is at least as large as that of ReadSnapshot, which then takes this package's reader as its own and reads nothing beyond.
const snapshotBuffer = 1 << 20

func readBackup(body *summedBody) (*State, BackupHeader, error) {
	in := bufio.NewReaderSize(body, snapshotBuffer)
	header, err := readBackupHeader(in)
	if err != nil {
		return nil, header, err
	}
	s, err := ReadSnapshot(in)
	if err != nil {
		return nil, header, err
	}
	if _, err := in.Peek(1); err != io.EOF {
		return nil, header, errors.New("more bytes than a backup has")
	}
	if err := body.verify(); err != nil {
		return nil, header, err
	}
	if got := s.BackupHeader(header.Cluster); got.Digest != header.Digest || got.Token != header.Token || got.Revision != header.Revision {
		return nil, header, errors.New("the header is that of another state")
	}
	return s, header, nil
}

func readBackupHeader(in *bufio.Reader) (BackupHeader, error) {
	var h BackupHeader
	format, err := readLine(in)
	switch {
	case err != nil:
		return h, err
	case string(format) != backupFormat && bytes.HasPrefix(format, []byte(backupFormatPrefix)):
		return h, fmt.Errorf("%w: format %q", ErrNewerBackup, bytes.TrimSpace(format[len(backupFormatPrefix):]))
	case string(format) != backupFormat:
		return h, errors.New("not a backup")
	}
	line, err := readLine(in)
	if err != nil {
		return h, err
	}
	if err := json.Unmarshal(line, &h); err != nil {
		return h, err
	}
	if known := len(New().sections()); h.Level > backupLevel || h.Sections > known {
		return h, fmt.Errorf("%w: level %d with %d sections, this version knows level %d with %d", ErrNewerBackup, h.Level, h.Sections, backupLevel, known)
	}
	return h, nil
}

func readLine(in *bufio.Reader) ([]byte, error) {
	line, err := in.ReadSlice('\n')
	switch {
	case err == io.EOF:
		return nil, io.ErrUnexpectedEOF
	case err != nil:
		return nil, err
	case len(line) > backupLineMax:
		return nil, fmt.Errorf("a line of %d bytes", len(line))
	}
	return bytes.Clone(line), nil
}

// summedBody gives out all of a stream but the checksum at its end.
type summedBody struct {
	r      *bufio.Reader
	sum    hash.Hash
	failed error // what the stream said, other than that it is over
}

func (b *summedBody) Read(p []byte) (int, error) {
	if _, err := b.r.Peek(sha256.Size + 1); err != nil {
		if err != io.EOF {
			b.failed = err
		}
		return 0, err
	}
	n, err := b.r.Read(p[:min(len(p), b.r.Buffered()-sha256.Size)])
	b.sum.Write(p[:n])
	return n, err
}

func (b *summedBody) verify() error {
	want, err := b.r.Peek(sha256.Size)
	if err != nil {
		return err
	}
	if got := b.sum.Sum(nil); !bytes.Equal(got, want) {
		return fmt.Errorf("checksum %x, want %x", got, want)
	}
	return nil
}

// Succeed makes a state that was read from a backup fit to take the place of the present one. It must not be applied to afterwards, but
// written and read again: what is derived from its rows no longer fits them.
//
//   - No counter falls, and the token counter jumps: what this cluster or a lost one has given since the backup is not given again.
//
//   - Every table counts as changed at the new revision, so that whoever waits for news looks again.
//
//   - Sessions get a full TTL: time has stood still for them since the backup, and they may be alive. None counts as renewed in this term,
//     so that those that are dead end after that TTL however often the leader changes. A new generation makes void what a leader was
//     about to say of them.
//
//   - Nodes stay as they are: a backup knows neither who is in the cluster now nor where.
//
//   - What operators did stays in the audit, and the restore is added to it: act says who asked for it and why.
//
// Stored idempotency results are the backup's: they tell of what this state has. Those given since tell of what it does not have.
func (s *State) Succeed(present *State, act Act) error {
	c, p := &s.counters, present.counters
	token, revision := max(c.Token, p.Token), max(c.Revision, p.Revision)
	if token >= TokenMax-RestoreTokenJump || revision >= TokenMax { // the act takes a token too
		return fmt.Errorf("%w: token %d, revision %d", ErrTokensExhausted, token, revision)
	}
	c.Token, c.Revision = token+RestoreTokenJump, revision
	c.Now, c.Term = max(c.Now, p.Now), p.Term
	present.acts.ascend(0, func(id uint64, a Act) bool { s.acts.put(id, a); return true })
	for s.acts.len() >= ActsMax {
		s.forgetAct()
	}
	s.audit(act)
	c.Revision++
	s.succeedSessions(present)
	s.nodes = newTable[string, Node](s.nodes.name, nil)
	present.nodes.ascend("", func(id string, n Node) bool { s.nodes.put(id, n); return true })
	for _, table := range s.sections() {
		s.modified.put(table.title(), c.Revision)
	}
	return nil
}

func (s *State) succeedSessions(present *State) {
	var all []Session
	s.sessions.ascend("", func(_ string, v Session) bool { all = append(all, v); return true })
	for _, v := range all {
		was, _ := present.sessions.get(v.ID)
		v.Generation = max(v.Generation, was.Generation) + 1
		v.RenewedTerm = 0 // terms begin at 1
		v.Deadline = s.counters.Now + v.TTLMs
		v.Index = s.counters.Revision
		s.sessions.put(v.ID, v)
	}
}

// Held counts what a state holds, for those who decide about a restore.
func (s *State) Held() (sessions, locks, events int) {
	return s.sessions.len(), s.grants.len(), s.events.len()
}
