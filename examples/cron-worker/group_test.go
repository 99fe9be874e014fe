//go:build unix

package main

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// startShell runs a script as a job. It returns what the script writes once it has written "ready", and a stop that waits for the end of
// the job, with the cause of the stop.
func startShell(t *testing.T, script string) (out *bufio.Reader, stop func() error) {
	t.Helper()
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("there is no shell")
	}
	read, write, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { read.Close() })
	require.NoError(t, read.SetReadDeadline(time.Now().Add(20*time.Second)))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- execute([]string{"sh", "-c", script}, write)(ctx)
		write.Close()
	}()
	out = bufio.NewReader(read)
	line, err := out.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "ready\n", line)
	return out, func() error { cancel(); return <-ended }
}

// A ctrl-C goes to the group of this process.
func TestTheCommandHasItsOwnProcessGroup(t *testing.T) {
	out, stop := startShell(t, "echo ready; echo $$; exec sleep 60")
	line, err := out.ReadString('\n')
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	require.NoError(t, err)
	group, err := syscall.Getpgid(pid)
	require.NoError(t, err)
	require.Equal(t, pid, group)
	require.NotEqual(t, syscall.Getpgrp(), group)
	require.ErrorIs(t, stop(), context.Canceled)
}

// What the command has started is interrupted with it, as by a ctrl-C, and has a moment to clean up even if the command itself
// ends at once.
func TestAStopInterruptsTheWholeGroup(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	t.Setenv("SELF", self)
	t.Setenv("CRON_WORKER_SCRIPT", `trap "sleep 0.1; echo heard; exit" INT; sleep 60 & echo ready; wait`)
	out, stop := startShell(t, `exec "$SELF"`)
	require.ErrorIs(t, stop(), context.Canceled)
	rest, err := io.ReadAll(out)
	require.NoError(t, err)
	require.Equal(t, "heard\n", string(rest))
}

// The pipe ends only when no process of the group is left.
func TestAStopLeavesNothingOfTheGroup(t *testing.T) {
	out, stop := startShell(t, `trap "" INT; sleep 60 & echo ready; wait`)
	require.ErrorIs(t, stop(), context.Canceled)
	_, err := io.ReadAll(out)
	require.NoError(t, err)
}

func TestAHangupStops(t *testing.T) {
	if signal.Ignored(syscall.SIGHUP) {
		t.Skip("the tests run under nohup")
	}
	ctx, stop := stopAtHangup(t.Context())
	defer stop()
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	select {
	case <-ctx.Done():
	case <-time.After(10 * time.Second):
		require.Fail(t, "the ctx did not end")
	}
}
