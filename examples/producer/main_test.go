package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/sequintest"
)

// asProducer makes this test binary the command itself, so that a test can send it signals.
const asProducer = "SEQUIN_TEST_AS_PRODUCER"

func TestMain(m *testing.M) {
	if os.Getenv(asProducer) != "" {
		main()
	}
	os.Exit(m.Run())
}

// screen is a stderr that several goroutines write.
type screen struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// try runs the command in this process, against a server, and returns its exit code and what it wrote.
func try(t *testing.T, srv *sequintest.Server, stdin string, args ...string) (int, string) {
	t.Helper()
	var out screen
	code := run(t.Context(), append([]string{"-url", srv.Listen()}, args...), strings.NewReader(stdin), &out, false)
	return code, out.String()
}

// stored returns the stream's data by key.
func stored(srv *sequintest.Server, stream string) map[string]string {
	s, _ := srv.Stream(stream)
	byKey := map[string]string{}
	for _, m := range s.Messages {
		byKey[m.Key] = m.Data
	}
	return byKey
}

func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestAFileIsSent(t *testing.T) {
	srv := sequintest.NewServer(t, sequintest.Config{})
	orders := file(t, "orders.csv", "customer,id\nann,1\nbob,2\n")
	code, out := try(t, srv, "", "-stream", "orders", "-create", "-key", "orders.{customer}.{id}", orders)
	require.Zero(t, code, out)
	require.Equal(t, map[string]string{"orders.ann.1": `{"customer":"ann","id":"1"}`, "orders.bob.2": `{"customer":"bob","id":"2"}`}, stored(srv, "orders"))
	require.Contains(t, out, "2 read, 2 sent")
	require.NotContains(t, out, "\x1b", "no control sequences where there is no terminal")
}

func TestWhatIsRejectedIsToldAndWritten(t *testing.T) {
	srv := sequintest.NewServer(t, sequintest.Config{})
	srv.Fault(sequintest.Fault{Op: sequintest.Send, Status: 422, Body: `{"summary":"not this one"}`, Match: func(r *sequintest.Request) bool {
		return bytes.Contains(r.Body, []byte("poison"))
	}})
	rejects := filepath.Join(t.TempDir(), "rejects.ndjson")
	code, out := try(t, srv, "{\"id\":\"good\"}\n{\"id\":\"a b\"}\nnothing\n{\"id\":\"poison\"}\n", "-stream", "s", "-create", "-format", "ndjson", "-key", "k.{id}", "-rejects", rejects)
	require.Equal(t, exitUnsent, code)
	require.Len(t, stored(srv, "s"), 1)
	require.Contains(t, out, `record 2: {id}: "a b" holds ' '`)
	require.Contains(t, out, "record 3: not a record")
	require.Contains(t, out, "not this one")
	require.Contains(t, out, "3 records were rejected")
	written, err := os.ReadFile(rejects)
	require.NoError(t, err)
	require.Equal(t, 3, bytes.Count(written, []byte("\n")))
	require.Contains(t, string(written), `"key":"k.poison"`)
}

func TestAMistypedStreamEndsTheRunAndSaysWhereToGoOn(t *testing.T) {
	srv := sequintest.NewServer(t, sequintest.Config{})
	code, out := try(t, srv, strings.Repeat("x\n", 50_000), "-stream", "typo", "-grace", "1ms")
	require.Equal(t, exitUnsent, code)
	require.Contains(t, out, "404 Not Found")
	require.Regexp(t, `-skip \d+ goes on there`, out)
	require.Contains(t, out, "-spool would have kept them")
}

func TestArgumentsThatMakeNoSense(t *testing.T) {
	for _, row := range []struct {
		args []string
		says string
	}{
		{[]string{}, "-stream is needed"},
		{[]string{"-stream", "s", "-format", "xml"}, "must be ndjson, csv or lines"},
		{[]string{"-stream", "s", "-key", "{"}, "needs a name"},
		{[]string{"-stream", "s", "-grace", "-1s"}, "must not be negative"},
		{[]string{"-stream", "s", "a", "b"}, "one file at a time"},
		{[]string{"-stream", "s", filepath.Join("no", "such", "file")}, "no such file"},
		{[]string{"-nonsense"}, "-h explains"},
	} {
		var out screen
		require.Equal(t, exitUsage, run(t.Context(), row.args, strings.NewReader(""), &out, false))
		require.Contains(t, out.String(), row.says)
	}
	var out screen
	require.Equal(t, exitSent, run(t.Context(), []string{"-h"}, strings.NewReader(""), &out, false))
	require.Contains(t, out.String(), "A second ctrl-C")
}

func TestABrokenSpoolIsLeftAlone(t *testing.T) {
	srv := sequintest.NewServer(t, sequintest.Config{})
	spool := file(t, "spool", `{"key":"a","data":"1"}{"key`)
	code, out := try(t, srv, "x\n", "-stream", "s", "-create", "-spool", spool)
	require.Equal(t, exitUnsent, code)
	require.Contains(t, out, "after message 1")
	require.FileExists(t, spool)
	require.Zero(t, srv.Count(sequintest.Send))
}

func TestATerminalShowsOneLine(t *testing.T) {
	srv := sequintest.NewServer(t, sequintest.Config{})
	var out screen
	require.Zero(t, run(t.Context(), []string{"-url", srv.Listen(), "-stream", "s", "-create"}, strings.NewReader("x\ny\n"), &out, true))
	require.Contains(t, out.String(), clearLine+"2 read, 2 sent")
	require.True(t, strings.HasSuffix(out.String(), "\n"))
}

// As a process: ctrl-C while the server refuses everything; then a second run sends what the first one spooled.
func TestCtrlCSpoolsAndTheNextStartSendsIt(t *testing.T) {
	srv := sequintest.NewServer(t, sequintest.Config{})
	outage := srv.Fault(sequintest.Fault{Op: sequintest.Send, Status: 503})
	spool := filepath.Join(t.TempDir(), "spool.ndjson")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	start := func() (*exec.Cmd, io.WriteCloser, *screen) {
		cmd := exec.CommandContext(ctx, os.Args[0], "-url", srv.Listen(), "-stream", "s", "-create", "-key", "k.{line}", "-spool", spool, "-grace", "10ms")
		cmd.Env = append(os.Environ(), asProducer+"=1")
		stdin, err := cmd.StdinPipe()
		require.NoError(t, err)
		out := &screen{}
		cmd.Stderr = out
		require.NoError(t, cmd.Start())
		return cmd, stdin, out
	}

	first, stdin, out := start()
	const n = 100
	for i := range n {
		_, err := io.WriteString(stdin, "line "+strconv.Itoa(i+1)+"\n")
		require.NoError(t, err)
	}
	require.NoError(t, outage.Wait(ctx, 1))
	require.NoError(t, first.Process.Signal(os.Interrupt)) // its standard input stays open
	var exit *exec.ExitError
	require.ErrorAs(t, first.Wait(), &exit)
	require.Equal(t, exitUnsent, exit.ExitCode(), out.String())
	require.Contains(t, out.String(), "-grace is over")
	require.Regexp(t, `interrupted after record \d+`, out.String())
	spooled, err := options{spool: spool}.readSpool()
	require.NoError(t, err)
	require.NotEmpty(t, spooled)
	require.Empty(t, stored(srv, "s"))

	outage.Remove()
	second, stdin, out := start()
	require.NoError(t, stdin.Close())
	require.NoError(t, second.Wait(), out.String())
	require.Len(t, stored(srv, "s"), len(spooled))
	for _, m := range spooled {
		require.Equal(t, m.Data, stored(srv, "s")[m.Key])
	}
	require.NoFileExists(t, spool)
}
