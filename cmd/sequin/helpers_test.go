package main

import (
	"bufio"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/cmd/sequin/internal/clitest"
)

// patience is how long a test waits for what should happen at once.
const patience = 30 * time.Second

// runNow runs a command that ends by itself and returns its exit code and what it printed.
func runNow(lookup func(string) (string, bool), args ...string) (code int, out, errors string) {
	var o, e clitest.Buffer
	code = run(args, world{out: &o, errors: &e, lookup: lookup, signals: make(chan os.Signal), hangups: func() <-chan os.Signal { return nil }})
	return code, o.String(), e.String()
}

// process is a server that runs inside the test.
type process struct {
	t       testing.TB
	usage   string // what it printed
	url     string
	signals chan os.Signal
	hangups chan os.Signal
	ended   chan int // gets the exit code
	errors  clitest.Buffer
	client  *http.Client
}

var urlLine = regexp.MustCompile(`(?m)^  URL +(\S+)$`)

// start runs sequin serve with the arguments on a free port and waits until it has printed how to use it.
func start(t testing.TB, lookup func(string) (string, bool), args ...string) *process {
	t.Helper()
	p := &process{t: t, signals: make(chan os.Signal, 2), hangups: make(chan os.Signal), ended: make(chan int, 1), client: &http.Client{Transport: &http.Transport{}}}
	reader, writer := io.Pipe()
	go func() {
		code := run(append([]string{"serve", "--addr", "127.0.0.1:0"}, args...), world{
			out: writer, errors: &p.errors, lookup: lookup, signals: p.signals, hangups: func() <-chan os.Signal { return p.hangups },
		})
		_ = writer.Close()
		p.ended <- code
	}()
	p.usage = readUsage(t, reader, &p.errors)
	p.url = urlLine.FindStringSubmatch(p.usage)[1]
	t.Cleanup(func() {
		p.client.CloseIdleConnections()
		select {
		case p.signals <- os.Interrupt:
		default: // it has been stopped
		}
		select {
		case <-p.ended:
		case <-time.After(patience):
			t.Error("the server does not end")
		}
	})
	return p
}

// readUsage reads what a server prints when it is ready.
func readUsage(t testing.TB, out io.Reader, errors interface{ String() string }) string {
	t.Helper()
	var usage strings.Builder
	lines := bufio.NewReader(out)
	for blank := 0; blank < 2; {
		line, err := lines.ReadString('\n')
		require.NoErrorf(t, err, "%s", errors.String())
		usage.WriteString(line)
		if line == "\n" {
			blank++
		}
	}
	return usage.String()
}

// wait returns the exit code.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case code := <-p.ended:
		p.ended <- code // for the cleanup
		return code
	case <-time.After(patience):
		p.t.Fatal("the server does not end")
		return 0
	}
}

// do sends a request with headers, which come in pairs, and returns the status and the body.
func (p *process) do(method, path, body string, headers ...string) (int, string) {
	p.t.Helper()
	r, err := http.NewRequest(method, p.url+path, strings.NewReader(body))
	require.NoError(p.t, err)
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" { // net/http takes it from the request
			r.Host = headers[i+1]
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := p.client.Do(r)
	require.NoError(p.t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(p.t, err)
	return resp.StatusCode, string(text)
}

// ok is do for a request that must succeed. It returns the body.
func (p *process) ok(method, path, body string) string {
	p.t.Helper()
	status, text := p.do(method, path, body)
	require.Equalf(p.t, http.StatusOK, status, "%s %s: %s", method, path, text)
	return text
}

// startWaiting starts a receive that waits for messages, of a consumer for which one receive may wait, and returns when it
// waits. The channel gets the body of its answer.
func (p *process) startWaiting(consumer string) <-chan string {
	p.t.Helper()
	receive := "/api/streams/" + consumer + "/receive"
	answer := make(chan string, 1)
	go func() {
		for {
			status, body := p.do("POST", receive, `{"wait_for":"5m"}`)
			if status != http.StatusTooManyRequests {
				answer <- body
				return
			}
		}
	}()
	for status := 0; status != http.StatusTooManyRequests; {
		status, _ = p.do("POST", receive, `{"wait_for":500}`)
	}
	return answer
}

// binary builds the program once and returns its path.
var binary = sync.OnceValues(func() (string, error) {
	built.Store(true)
	dir, err := os.MkdirTemp("", "sequin")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "sequin")
	command := buildCommand(path)
	variable, command := command[0], command[1:]
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), variable)
	cmd.Stderr = os.Stderr
	return path, cmd.Run()
})

// buildCommand builds the program as a static one, in the root of the repository.
func buildCommand(path string) []string {
	return []string{"CGO_ENABLED=0", "go", "-C", "cmd/sequin", "build", "-buildvcs=false", "-o", path, "."}
}

var built atomic.Bool

func TestMain(m *testing.M) {
	if os.Getenv(copyChild) != "" {
		os.Exit(runCopyChild())
	}
	code := m.Run()
	closePostgres()
	if built.Load() {
		path, _ := binary()
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// child is a server in a process of its own.
type child struct {
	*exec.Cmd
	usage, url string
	errors     clitest.Buffer
}

// startChild runs the program with the arguments and waits until it has printed how to use it.
func startChild(t *testing.T, env []string, args ...string) *child {
	t.Helper()
	path, err := binary()
	require.NoError(t, err)
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), env...)
	return startCommand(t, cmd)
}

// startCommand is startChild for a command that runs the program.
func startCommand(t *testing.T, cmd *exec.Cmd) *child {
	t.Helper()
	c := &child{Cmd: cmd}
	c.Stderr = &c.errors
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	t.Cleanup(func() { _ = c.Process.Kill() })
	c.usage = readUsage(t, out, &c.errors)
	c.url = urlLine.FindStringSubmatch(c.usage)[1]
	return c
}

// terminate sends SIGTERM and returns the exit code.
func (c *child) terminate(t *testing.T) int {
	t.Helper()
	require.NoError(t, c.Process.Signal(syscall.SIGTERM))
	_ = c.Wait()
	return c.ProcessState.ExitCode()
}
