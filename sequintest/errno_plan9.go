package sequintest

import "syscall"

// Plan 9 has no numbers for these errors. The texts are those of its network.
const (
	errReset      = syscall.ErrorString("connection reset by peer")
	errBrokenPipe = syscall.ErrorString("write on closed pipe")
	errRefused    = syscall.ErrorString("connection refused")
)
