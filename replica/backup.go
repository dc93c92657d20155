package replica

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quiescehq/quiesce/fsm"
	"github.com/quiescehq/quiesce/replica/store"
)

// Codes of a refused restore.
const (
	CodeBackupDamaged   = "backup_damaged"
	CodeBackupNewer     = "backup_newer"
	CodeTokensExhausted = "tokens_exhausted"
	CodeRestoreRunning  = "restore_running"
)

const (
	// restoreTimeout is for the part of a restore during which nobody leads: writing the state to disk, and giving it to a majority.
	restoreTimeout = 2 * time.Minute
	adoptElections = 50 // election timeouts for the others to have another leader, and to reach this node
	resumeEvery    = 10 * time.Millisecond
)

// Backup is the state of one moment.
type Backup struct {
	fsm.BackupHeader
	state *fsm.State
}

// Write writes it in the form that Restore reads.
func (b *Backup) Write(w io.Writer) error { return b.state.WriteBackup(w, b.Cluster) }

// Backup takes the state with every command that was acknowledged before the call, as Read does. Taking it costs nothing, and the cluster
// goes on while it is written.
func (r *Replica) Backup(ctx context.Context) (*Backup, error) {
	if err := r.Read(ctx); err != nil {
		return nil, err
	}
	r.machine.mu.Lock()
	state := r.machine.state.Clone()
	r.machine.mu.Unlock()
	return &Backup{BackupHeader: state.BackupHeader(r.stores.Identity().ClusterID), state: state}, nil
}

// Restored says what a restore did, or would do.
type Restored struct {
	Of                      fsm.BackupHeader
	Revision, Token         uint64 // after it
	Sessions, Locks, Events int    // that the backup holds
}

// RestoreOptions say how to restore.
type RestoreOptions struct {
	DryRun bool    // only find out whether it can be done
	Act    fsm.Act // for the audit
}

// restoration is a restore on its way to the one goroutine that leads.
type restoration struct {
	state *fsm.State // of the backup, as it was read
	act   fsm.Act
	into  *Restored
	done  chan error
}

// Restore puts the state of a backup in the place of the present one, on every node, or in a dry run only finds out whether that can be
// done. See fsm.State.Succeed for what it takes from the present state. A *RefusedError and ErrNotApplied: nothing has changed.
//
// The term is interrupted: reads and writes are refused and nothing expires until a majority has the restored state, then TermStart
// begins it anew, with leases, clock and tasks that know no other state.
func (r *Replica) Restore(ctx context.Context, stream io.Reader, o RestoreOptions) (Restored, error) {
	select {
	case r.restoring <- struct{}{}:
		defer func() { <-r.restoring }()
	default:
		return Restored{}, &RefusedError{Code: CodeRestoreRunning, Detail: "a restore is under way on this node; wait for its end"}
	}
	if err := r.Read(ctx); err != nil {
		return Restored{}, err
	}
	state, header, err := fsm.ReadBackup(stream)
	if err != nil {
		return Restored{}, refusedBackup(err)
	}
	out := Restored{Of: header}
	out.Sessions, out.Locks, out.Events = state.Held()
	if o.DryRun {
		r.machine.view(func(present *fsm.State, _ uint64) { err = state.Succeed(present, o.Act) })
		out.Revision, out.Token = state.Revision(), state.Token()
		return out, refusedBackup(err)
	}
	end, err := r.beginChange(ctx) // raft restores nothing while the membership changes
	if err != nil {
		return Restored{}, err
	}
	defer end()
	job := &restoration{state: state, act: o.Act, into: &out, done: make(chan error, 1)}
	select {
	case r.restores <- job:
	case <-ctx.Done():
		return Restored{}, fmt.Errorf("%w: %v", ErrNotApplied, context.Cause(ctx))
	case <-r.stopped:
		return Restored{}, fmt.Errorf("%w: the node is stopping", ErrNotApplied)
	}
	select { // whatever becomes of ctx now, the restore goes on
	case err = <-job.done:
	case <-r.stopped:
		err = fmt.Errorf("%w: the node is stopping", ErrOutcomeUnknown)
	}
	if err != nil {
		return Restored{}, err
	}
	r.awaitResumed(ctx)
	return out, nil
}

// refusedBackup keeps the cause in the chain.
func refusedBackup(err error) error {
	code, detail := "", ""
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fsm.ErrNewerBackup):
		code, detail = CodeBackupNewer, "a newer version wrote the backup: restore it with that version"
	case errors.Is(err, fsm.ErrDamagedBackup):
		code, detail = CodeBackupDamaged, "the stream is not what a backup wrote, or not all of it"
	case errors.Is(err, fsm.ErrTokensExhausted):
		code, detail = CodeTokensExhausted, "the token counter has no room for the jump of a restore"
	default:
		return err
	}
	return fmt.Errorf("%w: %w", &RefusedError{Code: code, Detail: detail}, err)
}

// awaitResumed waits until this node serves again, so that who restored can go on at once. What is restored stays so in any case.
func (r *Replica) awaitResumed(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	for r.Read(ctx) != nil && r.raft.State() == raft.Leader {
		if sleep(ctx, resumeEvery) != nil {
			return
		}
	}
}

// restore runs where leadership is begun and ended, after it was ended: nothing else is proposed.
func (r *Replica) restore(job *restoration) error {
	r.sending.Lock() // whatever was on its way to raft when the leadership ended has reached it
	r.sending.Unlock()
	if err := r.raft.Barrier(applyTimeout).Error(); err != nil {
		return fmt.Errorf("%w: entries under way did not settle: %v", ErrNotApplied, err)
	}
	var err error
	r.machine.view(func(present *fsm.State, _ uint64) { err = job.state.Succeed(present, job.act) })
	if err != nil {
		return refusedBackup(err)
	}
	job.into.Revision, job.into.Token = job.state.Revision(), job.state.Token()
	index := r.raft.LastIndex() // raft gives the snapshot the next one
	var content bytes.Buffer
	if err := writeSnapshot(&content, job.state, index+1); err != nil {
		return fmt.Errorf("%w: %v", ErrNotApplied, err)
	}
	if err := r.stores.MarkRestoring(store.Restoring{Voters: len(r.voters()), Index: index + 1}); err != nil {
		return fmt.Errorf("%w: %v", ErrNotApplied, err)
	}
	r.log.Warn("restoring a backup", "cluster", job.into.Of.Cluster, "revision", job.into.Of.Revision, "index", index+1)
	return r.install(&raft.SnapshotMeta{Version: raft.SnapshotVersionMax, Index: index, Size: int64(content.Len())}, &content)
}

// install lets raft take the state as its newest snapshot, and returns when a majority has it.
func (r *Replica) install(meta *raft.SnapshotMeta, content io.Reader) error {
	before := r.machine.restored()
	done := make(chan error, 1)
	go func() { done <- r.raft.Restore(meta, content, 0) }() // raft gives no way to abandon it; its own end or the process's ends it
	limit := time.NewTimer(restoreTimeout)
	defer limit.Stop()
	var err error
	select {
	case err = <-done:
	case <-limit.C:
		err = fmt.Errorf("no end within %s", restoreTimeout)
		r.fatal(fmt.Errorf("%w: %v", ErrRestoreUnfinished, err))
		return fmt.Errorf("%w: %v", ErrOutcomeUnknown, err)
	}
	if err != nil && r.machine.restored() == before {
		return errors.Join(fmt.Errorf("%w: %v", ErrNotApplied, err), r.stores.ClearRestoring())
	}
	if err != nil && !r.adopted(meta.Index+1, before+1) {
		r.fatal(fmt.Errorf("%w: %v", ErrRestoreUnfinished, err))
		return fmt.Errorf("%w: %v", ErrOutcomeUnknown, err)
	}
	r.log.Warn("restored a backup", "index", meta.Index+1)
	return r.stores.ClearRestoring()
}

// adopted finds out what became of a restored state whose leader, this node, was deposed before a majority had it. If a leader goes on from
// it, this node or one that has received it, raft applies entries after it. If the others went on without it, raft does not notice that
// this node's state stands for an entry that never was, and it can do no better than to send an older snapshot. Such a node must not go on,
// and the mark keeps it from starting again: see store.MarkRestoring.
func (r *Replica) adopted(index uint64, restored int) bool {
	limit := time.NewTimer(adoptElections * r.cfg.ElectionTimeout)
	defer limit.Stop()
	every := time.NewTicker(resumeEvery)
	defer every.Stop()
	for {
		switch {
		case r.machine.restored() != restored:
			return false
		case r.raft.AppliedIndex() > index:
			return true
		}
		select {
		case <-every.C:
		case <-limit.C:
			return false
		case <-r.stopped:
			return false
		}
	}
}

func writeSnapshot(w io.Writer, state *fsm.State, applied uint64) error {
	if err := binary.Write(w, binary.BigEndian, applied); err != nil {
		return err
	}
	return state.WriteSnapshot(w)
}
