package feed

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ErrLocked means that another process sends the file to the same place now.
var ErrLocked = errors.New("another sequin send of this file to this stream is running")

// Lock keeps other processes from sending the same, until unlock or the end of this process. It does nothing where files have no
// locks. It must be called before Resume reads the checkpoint.
func (c *Checkpoint) Lock() (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(c.path), 0o700); err != nil {
		return nil, err
	}
	// ReplaceFile replaces the checkpoint, so that a lock on that file would hold nobody up.
	path := strings.TrimSuffix(c.path, ".json") + ".lock"
	for {
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		if err := lock(file); err != nil {
			err = lockedBy(err, file)
			return nil, errors.Join(err, file.Close())
		}
		if same, err := isAt(file, path); err != nil || !same {
			_ = file.Close()
			if err != nil {
				return nil, err
			}
			continue // its owner has removed it between the open and the lock
		}
		if file.Truncate(0) == nil { // the text is for people
			_, _ = fmt.Fprintln(file, os.Getpid())
		}
		return func() {
			_ = os.Remove(path) // who opens it now finds out that it is gone
			_ = file.Close()
		}, nil
	}
}

// isAt reports whether path names the file.
func isAt(file *os.File, path string) (bool, error) {
	opened, err := file.Stat()
	if err != nil {
		return false, err
	}
	named, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(opened, named), err
}

// lockedBy adds the process that holds a lock to ErrLocked.
func lockedBy(err error, file *os.File) error {
	var pid int
	if !errors.Is(err, ErrLocked) {
		return err
	}
	if _, unknown := fmt.Fscan(file, &pid); unknown != nil {
		return err
	}
	return fmt.Errorf("%w as process %d", err, pid)
}
