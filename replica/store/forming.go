package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const formingFile = "forming.json"

// SetForming makes the founder's plan durable before it tells anybody: a founder that dies in the middle resumes it, since a cluster
// that only some of its members know of could never elect. The plan is any value that encoding/json can write.
func (s *Stores) SetForming(plan any) error {
	if s.dir == "" {
		s.mu.Lock()
		defer s.mu.Unlock()
		var err error
		s.forming, err = json.Marshal(plan)
		return err
	}
	raw, err := json.Marshal(plan)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return writeAtomically(filepath.Join(s.dir, formingFile), raw)
}

// Forming reads the plan into plan; false when there is none.
func (s *Stores) Forming(plan any) (bool, error) {
	raw, err := s.readForming()
	if err != nil || raw == nil {
		return false, err
	}
	if err := json.Unmarshal(raw, plan); err != nil {
		return false, fmt.Errorf("%w: %s: %w", ErrDamaged, formingFile, err)
	}
	return true, nil
}

func (s *Stores) readForming() ([]byte, error) {
	if s.dir == "" {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.forming, nil
	}
	raw, err := os.ReadFile(filepath.Join(s.dir, formingFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return raw, err
}

// ClearForming forgets the plan once every member has it.
func (s *Stores) ClearForming() error {
	if s.dir == "" {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.forming = nil
		return nil
	}
	if err := os.Remove(filepath.Join(s.dir, formingFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("store: %w", err)
	}
	return syncDir(s.dir)
}
