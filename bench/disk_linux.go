package main

import "syscall"

// The magic numbers of file systems in memory, as statfs(2) lists them.
const (
	tmpfsMagic = 0x01021994
	ramfsMagic = 0x858458f6
)

// inMemory reports whether a directory is on a file system in memory.
func inMemory(dir string) bool {
	var fs syscall.Statfs_t
	return syscall.Statfs(dir, &fs) == nil && (int64(fs.Type) == tmpfsMagic || int64(fs.Type) == ramfsMagic)
}
