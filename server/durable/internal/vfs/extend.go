package vfs

import "os"

// zeros is what extend writes at once.
var zeros [1 << 20]byte

// extend writes zeros to the end of the file until it has size bytes, where the system cannot reserve room otherwise.
func extend(f *os.File, size int64) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	for at := info.Size(); at < size; {
		n, err := f.WriteAt(zeros[:min(size-at, int64(len(zeros)))], at)
		if err != nil {
			return err
		}
		at += int64(n)
	}
	return nil
}
