package vfs

import (
	"fmt"
	"os"
)

// OS is the file system of the machine.
var OS FS = system{}

type system struct{}

func (system) MkdirAll(dir string) error { return os.MkdirAll(dir, 0o700) }

func (system) List(dir string) ([]Info, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var files []Info
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		info, err := e.Info()
		if os.IsNotExist(err) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		files = append(files, Info{e.Name(), info.Size()})
	}
	return files, nil
}

func (system) SyncDir(dir string) error { return syncDir(dir) }

func (system) Space(dir string) (free, total int64, err error) { return space(dir) }

func (system) Create(name string) (File, error) {
	return open(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
}

func (system) Open(name string) (File, error) { return open(name, os.O_RDONLY) }

func (system) OpenWrite(name string) (File, error) { return open(name, os.O_RDWR) }

func (system) Rename(from, to string) error { return os.Rename(from, to) }

func (system) Link(from, to string) error { return os.Link(from, to) }

func (system) Remove(name string) error { return os.Remove(name) }

// owner is what a lock file says.
func owner() string {
	host, _ := os.Hostname()
	return fmt.Sprintf("%d %s\n", os.Getpid(), host)
}

// file is an os.File with the methods of File.
type file struct{ *os.File }

func open(name string, flag int) (File, error) {
	f, err := os.OpenFile(name, flag, 0o600)
	if err != nil {
		return nil, err
	}
	return file{f}, nil
}

func (f file) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f file) Allocate(size int64) error { return allocate(f.File, size) }

func (f file) Sync() error { return syncData(f.File) }
