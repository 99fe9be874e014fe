package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/cmd/sequin/internal/clitest"
)

// unfinished sends a request without the last byte of its body, and returns when the server has its header.
func (p *process) unfinished() net.Conn {
	p.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	require.NoError(p.t, err)
	p.t.Cleanup(func() { _ = conn.Close() })
	require.NoError(p.t, conn.SetDeadline(time.Now().Add(patience)))
	fmt.Fprint(conn, "POST /api/streams HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 12\r\nExpect: 100-continue\r\n\r\n")
	line, err := bufio.NewReaderSize(conn, 16).ReadString('\n')
	require.NoError(p.t, err)
	require.Equal(p.t, "HTTP/1.1 100 Continue\r\n", line)
	fmt.Fprint(conn, `{"name":"s"`)
	return conn
}

// waitForStatus asks for a path until it has the status.
func (p *process) waitForStatus(path string, want int) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		status, _ := p.do("GET", path, "")
		if status == want {
			return
		}
		require.True(p.t, time.Now().Before(deadline), "%s answers %d", path, status)
	}
}

// TestASignalStopsTheServerAfterTheLastAnswer has a request run and a receive wait when the signal comes.
func TestASignalStopsTheServerAfterTheLastAnswer(t *testing.T) {
	p := start(t, clitest.Environment(), "--memory", "--shutdown-timeout", "1m")
	p.ok("POST", "/api/streams", `{"name":"waited"}`)
	p.ok("POST", "/api/streams/waited/consumers", `{"name":"c","filter_key_pattern":">","max_waiting":1}`)
	waited := p.startWaiting("waited/consumers/c")
	conn := p.unfinished()
	p.signals <- os.Interrupt
	require.Equal(t, `{"data":[]}`, <-waited)
	p.waitForStatus("/readyz", http.StatusServiceUnavailable)
	status, _ := p.do("GET", "/healthz", "")
	require.Equal(t, http.StatusOK, status)
	status, body := p.do("GET", "/api/streams", "")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, body, "Server is stopping")

	fmt.Fprint(conn, "}")
	answer, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Contains(t, string(answer), "200 OK")
	require.Contains(t, string(answer), `"name":"s"`)
	require.Equal(t, cli.ExitOK, p.wait())
	_, err = p.client.Get(p.url)
	require.Error(t, err)
}

func TestAStopCutsOffWhatTakesTooLong(t *testing.T) {
	// A fifth of the time is left for the store, which a busy machine may need.
	p := start(t, clitest.Environment(), "--memory", "--shutdown-timeout", "3s")
	conn := p.unfinished()
	p.signals <- os.Interrupt
	require.Equal(t, cli.ExitOK, p.wait(), "nothing is lost")
	_, err := io.ReadAll(conn)
	_ = err // the connection may end with a reset
	require.Contains(t, p.errors.String(), "1 requests still run")
}

func TestASecondSignalEndsTheServerAtOnce(t *testing.T) {
	p := start(t, clitest.Environment(), "--memory", "--shutdown-timeout", "1h")
	p.unfinished()
	p.signals <- os.Interrupt
	p.waitForStatus("/readyz", http.StatusServiceUnavailable)
	p.signals <- os.Interrupt
	require.Equal(t, cli.ExitFailed, p.wait())
	require.Contains(t, p.errors.String(), "sequin: stopped at once by a second signal")
}

// TestADoubledSignalIsOne sends two signals before the server has seen the first, as some programs do that signal a process
// and its group.
func TestADoubledSignalIsOne(t *testing.T) {
	p := start(t, clitest.Environment(), "--memory")
	p.signals <- os.Interrupt
	p.signals <- os.Interrupt
	require.Equal(t, cli.ExitOK, p.wait())
}

func TestAnAddressInUseIsReported(t *testing.T) {
	p := start(t, clitest.Environment(), "--memory")
	code, _, errors := runNow(clitest.Environment(), "serve", "--memory", "--addr", strings.TrimPrefix(p.url, "http://"))
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, errors, "is in use: stop the other server, or choose another --addr")
}

// TestAHangupReadsTheFilesAgain has a process of its own, which a SIGHUP would end that it does not expect.
func TestAHangupReadsTheFilesAgain(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be sent such a signal")
	}
	tokens := clitest.File(t, "first\n")
	c := startChild(t, nil, "serve", "--memory", "--addr", "127.0.0.1:0", "--token-file", tokens)
	require.NoError(t, os.WriteFile(tokens, []byte("second\n"), 0o600))
	require.NoError(t, c.Process.Signal(syscall.SIGHUP))
	for deadline := time.Now().Add(patience); !strings.Contains(c.errors.String(), "the token file was read again"); runtime.Gosched() {
		require.True(t, time.Now().Before(deadline), c.errors.String())
	}
	require.Equal(t, cli.ExitOK, c.terminate(t), c.errors.String())
}

func TestTheProgramEndsWithASignal(t *testing.T) {
	c := startChild(t, nil, "serve", "--memory", "--addr", "127.0.0.1:0")
	resp, err := http.Get(c.url + "/readyz")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, cli.ExitOK, c.terminate(t), c.errors.String())
	require.Contains(t, c.errors.String(), "msg=stopped")
}
