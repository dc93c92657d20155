package store

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	identityFile     = "node.json"
	identityFormat   = 1
	incarnationBytes = 16
)

// Identity is what makes a data folder one node's: it is written when the folder is made and survives all else.
type Identity struct {
	Format      int    `json:"format"`
	NodeID      string `json:"node_id"`
	Incarnation string `json:"incarnation"` // random, one for each life of the folder
	ClusterID   string `json:"cluster_id"`  // "" until formed or joined
	LogStore    Kind   `json:"log_store"`
}

func newIdentity(nodeID string, kind Kind) (Identity, error) {
	if nodeID == "" {
		return Identity{}, errors.New("store: a new data folder needs a node id")
	}
	var random [incarnationBytes]byte
	_, _ = rand.Read(random[:]) // never fails: crypto/rand ends the process instead
	return Identity{Format: identityFormat, NodeID: nodeID, Incarnation: hex.EncodeToString(random[:]), LogStore: kind}, nil
}

// readIdentity returns false when there is no identity file.
func readIdentity(dir string) (Identity, bool, error) {
	path := filepath.Join(dir, identityFile)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Identity{}, false, nil
	}
	if err != nil {
		return Identity{}, false, fmt.Errorf("store: %w", err)
	}
	var id Identity
	if err := json.Unmarshal(raw, &id); err != nil {
		return Identity{}, false, fmt.Errorf("%w: %s is not valid JSON: %w", ErrDamaged, path, err)
	}
	if id.Format != identityFormat {
		return Identity{}, false, fmt.Errorf("%w: %s has format %d, this program knows %d", ErrDamaged, path, id.Format, identityFormat)
	}
	if id.NodeID == "" || id.Incarnation == "" || !id.LogStore.known() {
		return Identity{}, false, fmt.Errorf("%w: %s lacks node_id, incarnation or log_store", ErrDamaged, path)
	}
	return id, true, nil
}

// check compares the folder with what the process was started as.
func (id Identity) check(dir, nodeID string, kind Kind) error {
	if nodeID != "" && nodeID != id.NodeID {
		return fmt.Errorf("%w: %s is node %q's, this is node %q", ErrNodeID, dir, id.NodeID, nodeID)
	}
	if kind != id.LogStore {
		return fmt.Errorf("%w: %s was made with %q, asked for %q", ErrLogStore, dir, id.LogStore, kind)
	}
	return nil
}

func (id Identity) write(dir string) error {
	raw, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return err
	}
	return writeAtomically(filepath.Join(dir, identityFile), append(raw, '\n'))
}

// writeAtomically leaves the old content or the new after a power cut, never a part.
func writeAtomically(path string, content []byte) error {
	tmp := path + ".tmp"
	if err := writeSynced(tmp, content); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

func writeSynced(path string, content []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	return errors.Join(err, file.Sync(), file.Close())
}

// syncDir makes created, renamed and removed names in dir durable.
func syncDir(dir string) error {
	file, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("store: sync %s: %w", dir, err)
	}
	return nil
}
