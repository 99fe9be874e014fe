//go:build unix

package serve

import "syscall"

// descriptorLimit returns how many descriptors the process may have, or 0 if that is not known. The os package has raised the
// soft limit to the hard one.
func descriptorLimit() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return uint64(limit.Cur)
}
