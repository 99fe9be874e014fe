//go:build unix

package main

import (
	"os/signal"
	"syscall"
)

// ignoreClosedPipes makes a closed pipe an error of the output like any other. Otherwise the signal would end the program,
// and the messages that it holds would stay leased.
func ignoreClosedPipes() { signal.Ignore(syscall.SIGPIPE) }
