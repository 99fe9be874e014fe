//go:build !unix

package main

import (
	"context"
	"os"
	"os/exec"
)

// ownGroup interrupts only the command, and end does nothing: here processes have no groups.
func ownGroup(c *exec.Cmd) (end func()) {
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	return func() {}
}

// stopAtHangup does nothing: a signal that is like SIGHUP is SIGTERM here.
func stopAtHangup(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithCancel(ctx)
}
