//go:build unix

package vfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/sequin-go/sequin/server/internal/store"
)

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

func isReadOnly(err error) bool { return errors.Is(err, syscall.EROFS) }

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (system) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = lockedBy(f)
	}
	if err == nil {
		// The text is for people and for the error of the next opener. The lock holds without it, on a full disk too.
		if f.Truncate(0) == nil {
			_, _ = f.WriteAt([]byte(owner()), 0)
		}
		return f, nil
	}
	f.Close()
	return nil, err
}

func lockedBy(f *os.File) error {
	text, _ := io.ReadAll(io.LimitReader(f, 1<<10)) // a host name has at most 255 bytes
	locked := &store.LockedError{}
	if _, err := fmt.Sscanf(string(text), "%d %s", &locked.PID, &locked.Host); err != nil {
		return &store.LockedError{}
	}
	return locked
}
