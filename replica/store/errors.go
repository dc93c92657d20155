package store

import (
	"errors"
	"fmt"
	"time"
)

// Errors of this package. Each carries the path and one sentence for the operator.
var (
	// ErrInUse: another process holds the data folder. The error is an *InUseError.
	ErrInUse = errors.New("data folder in use")
	// ErrNodeID: the folder belongs to another node.
	ErrNodeID = errors.New("data folder belongs to another node")
	// ErrLogStore: the folder was written with the other log store; its log would look empty.
	ErrLogStore = errors.New("data folder was written with another log store")
	// ErrDamaged: a file of the folder cannot be understood or is missing.
	ErrDamaged = errors.New("data folder is damaged")
	// ErrSnapshotDamaged: the newest snapshot cannot be read back.
	ErrSnapshotDamaged = errors.New("newest snapshot is damaged")
	// ErrRejoin: a rejoin was asked for, and the log's tail may hold acknowledged entries.
	ErrRejoin = errors.New("cannot rejoin with this log")
	// ErrStore: a log or stable store returned an error; the process must end.
	ErrStore = errors.New("store failed")
	// ErrStoreHung: a log or stable store did not answer in time; the process must end. The error is a *HungError.
	ErrStoreHung = errors.New("store hung")
)

// InUseError says who holds the data folder.
type InUseError struct {
	Dir string
	PID int // 0 when the holder did not write it yet
}

func (e *InUseError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("data folder %s is in use by another process", e.Dir)
	}
	return fmt.Sprintf("data folder %s is in use by pid %d", e.Dir, e.PID)
}

func (e *InUseError) Is(target error) bool { return target == ErrInUse }

// HungError says which operation did not return.
type HungError struct {
	Op    string
	Limit time.Duration
}

func (e *HungError) Error() string { return fmt.Sprintf("%s did not return within %s", e.Op, e.Limit) }

func (e *HungError) Is(target error) bool { return target == ErrStoreHung }
