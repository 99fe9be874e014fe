//go:build unix

package main

import (
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// limited returns a command that runs the program with the arguments and may open so many files.
func limited(t *testing.T, files int, args ...string) *exec.Cmd {
	t.Helper()
	path, err := binary()
	require.NoError(t, err)
	return exec.Command("sh", append([]string{"-c", fmt.Sprintf(`ulimit -n %d; exec "$0" "$@"`, files), path}, args...)...)
}

// TestIdleConnectionsLeaveTheStoreItsFiles opens more connections than the process may have files, and fills segments meanwhile.
func TestIdleConnectionsLeaveTheStoreItsFiles(t *testing.T) {
	c := startCommand(t, limited(t, 64, "serve", "--addr", "127.0.0.1:0", "--data", t.TempDir(), "--sync", "1s", "--header-timeout", "1h"))
	require.Contains(t, c.errors.String(), "the limit of open files allows fewer connections than --max-connections")
	p := &process{t: t, url: c.url, client: &http.Client{Transport: &http.Transport{}}}
	p.ok("POST", "/api/streams", `{"name":"s"}`) // from now on the client has a connection
	var idle []net.Conn
	for range 100 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(c.url, "http://"))
		require.NoError(t, err)
		defer conn.Close()
		idle = append(idle, conn)
	}
	body := `{"messages":[{"key":"k","data":"` + strings.Repeat("x", 7_900_000) + `"}]}`
	for range 18 { // into three segments of 64 MiB
		p.ok("POST", "/api/streams/s/messages", body)
	}
	for _, conn := range idle {
		require.NoError(t, conn.Close())
	}
	p.client.CloseIdleConnections()
	status, text := http.StatusServiceUnavailable, ""
	for status == http.StatusServiceUnavailable { // until the server has seen that the others are closed
		status, text = p.do("GET", "/api/streams", "")
	}
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, text, `"message_count":18`)
	require.Zero(t, c.terminate(t))
}

func TestTooFewFilesAreRefusedWithWhatToDo(t *testing.T) {
	cmd := limited(t, 40, "serve", "--addr", "127.0.0.1:0", "--memory")
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Equal(t, 1, cmd.ProcessState.ExitCode())
	require.Contains(t, string(out), `the process may open 40 files, which are too few for the store and 8 connections: allow more, with "ulimit -n 1024" in a shell or LimitNOFILE= in a systemd unit`)
}
