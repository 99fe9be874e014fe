// Package vfs is the part of a file system that the durable store uses. OS is the file system of the machine. Tests use
// one in memory, which loses what was not synced.
//
// The errors are those of package os: errors.Is finds fs.ErrNotExist, fs.ErrPermission and fs.ErrClosed in them. IsFull
// and IsReadOnly tell two more apart.
package vfs

import (
	"errors"
	"io"
	"io/fs"
)

// ErrNoSpace is the error of a write for which a file system in memory has no room.
var ErrNoSpace = errors.New("no space left on device")

// FS is a file system. Its methods may be called concurrently.
type FS interface {
	// MkdirAll creates a directory, and those above it, with mode 0700. It is no error when the directory exists.
	MkdirAll(dir string) error
	// List returns the files of a directory in the order of their names. It leaves directories out.
	List(dir string) ([]Info, error)
	// SyncDir makes the names of a directory survive a loss of power.
	SyncDir(dir string) error
	// Space returns the bytes that are free for this user, and the size of the volume.
	Space(dir string) (free, total int64, err error)

	// Create creates an empty file with mode 0600, or empties one that exists, for reading and writing.
	Create(name string) (File, error)
	// Open opens a file for reading.
	Open(name string) (File, error)
	// OpenWrite opens a file that exists for reading and writing.
	OpenWrite(name string) (File, error)
	// Rename replaces the file at the new name.
	Rename(from, to string) error
	// Link makes a second name for a file.
	Link(from, to string) error
	Remove(name string) error
	// Lock takes the lock of a file, which it creates, and writes the process id and the host into it. It does not wait:
	// when another holds the lock it returns a *store.LockedError. Close releases the lock; so does the end of the process.
	Lock(name string) (io.Closer, error)
}

// Info describes a file.
type Info struct {
	Name string // without the directory
	Size int64
}

// File is an open file. Its methods may be called concurrently.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	Truncate(size int64) error
	// Allocate makes the file at least size bytes long and reserves the room for them, where the system can. The new bytes
	// are 0.
	Allocate(size int64) error
	// Sync makes the contents survive a loss of power. After it has failed, what was not synced may be lost, even if
	// another Sync succeeds.
	Sync() error
}

// IsFull reports whether an operation failed because the disk, or the user's quota, is full.
func IsFull(err error) bool { return errors.Is(err, ErrNoSpace) || isFull(err) }

// IsReadOnly reports whether an operation failed because the file system or the directory cannot be written.
func IsReadOnly(err error) bool { return errors.Is(err, fs.ErrPermission) || isReadOnly(err) }
