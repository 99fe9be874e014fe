//go:build !plan9

package sequintest

import "syscall"

// The errors of connections and dials that the network refuses.
const (
	errReset      = syscall.ECONNRESET
	errBrokenPipe = syscall.EPIPE
	errRefused    = syscall.ECONNREFUSED
)
