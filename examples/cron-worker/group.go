//go:build unix

package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

// ownGroup starts a command in a process group of its own, so that ctrl-C in a terminal goes only to this process, which then
// decides when the command is interrupted. That goes to the group, as ctrl-C does. When an interrupted command has ended, end gives
// the others of its group the rest of WaitDelay and kills them: the run may begin elsewhere.
func ownGroup(c *exec.Cmd) (end func()) {
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var until time.Time
	c.Cancel = func() error {
		until = time.Now().Add(c.WaitDelay)
		err := syscall.Kill(-c.Process.Pid, syscall.SIGINT)
		if errors.Is(err, syscall.ESRCH) {
			return os.ErrProcessDone
		}
		return err
	}
	return func() {
		if c.Process == nil {
			return // it was not started
		}
		for time.Now().Before(until) && syscall.Kill(-c.Process.Pid, 0) == nil {
			time.Sleep(10 * time.Millisecond)
		}
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // an error says that nothing is left
	}
}

// stopAtHangup returns a ctx that also ends when the terminal is closed: commands in groups of their own are not told. Under nohup
// it does not.
func stopAtHangup(ctx context.Context) (context.Context, context.CancelFunc) {
	if signal.Ignored(syscall.SIGHUP) {
		return context.WithCancel(ctx)
	}
	return signal.NotifyContext(ctx, syscall.SIGHUP)
}
