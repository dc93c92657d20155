package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const lockFile = "lock"

// lockDir takes the folder for this process. The lock goes with the process however it ends; the file stays, since
// removing it would let two processes lock two files of one name.
func lockDir(dir string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = &InUseError{Dir: dir, PID: readPID(file)}
	}
	if err == nil {
		err = writePID(file)
	}
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("store: %w", err)
	}
	return file, nil
}

func readPID(file *os.File) int {
	var digits [20]byte
	n, _ := file.ReadAt(digits[:], 0)
	pid, _ := strconv.Atoi(strings.TrimSpace(string(digits[:n])))
	return pid
}

func writePID(file *os.File) error {
	if err := file.Truncate(0); err != nil {
		return err
	}
	_, err := file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}
