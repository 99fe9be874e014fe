package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

// asWorker makes the test binary run the command, so that a test can send it signals.
const asWorker = "SEQUIN_TEST_AS_WORKER"

func TestMain(m *testing.M) {
	if os.Getenv(asWorker) != "" {
		main()
	}
	os.Exit(m.Run())
}

// process is a running worker and its output.
type process struct {
	cmd    *exec.Cmd
	lines  chan string // the keys that it prints; closed when it ends
	stderr bytes.Buffer
}

func workerCommand(t *testing.T, args ...string) *process {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	p := &process{cmd: exec.CommandContext(t.Context(), exe, args...), lines: make(chan string, 100_000)}
	p.cmd.Env = append(os.Environ(), asWorker+"=1")
	p.cmd.Stderr = &p.stderr
	return p
}

func start(t *testing.T, args ...string) *process {
	t.Helper()
	p := workerCommand(t, args...)
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	go func() {
		defer close(p.lines)
		for scan := bufio.NewScanner(out); scan.Scan(); {
			key, _, _ := strings.Cut(scan.Text(), "\t")
			p.lines <- key
		}
	}()
	return p
}

// read returns the next n keys that the worker prints.
func (p *process) read(t *testing.T, n int) (keys []string) {
	t.Helper()
	for range n {
		key, ok := <-p.lines
		require.True(t, ok, "the worker ended: %s", &p.stderr)
		keys = append(keys, key)
	}
	return keys
}

// terminate sends SIGTERM and returns the keys that the worker printed afterwards. The worker must exit with 0.
func (p *process) terminate(t *testing.T) (keys []string) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	for key := range p.lines {
		keys = append(keys, key)
	}
	require.NoError(t, p.cmd.Wait(), &p.stderr)
	return keys
}

// prepare makes a stream with a consumer and n messages.
func prepare(t *testing.T, n int) *sequintest.Server {
	t.Helper()
	srv := sequintest.NewServer(t, sequintest.Config{KeepRequests: 100_000})
	client, err := sequin.NewClient(sequin.Config{BaseURL: srv.URL, HTTPClient: srv.Client()})
	require.NoError(t, err)
	_, err = client.CreateStream(t.Context(), "orders", sequin.StreamOptions{})
	require.NoError(t, err)
	_, err = client.CreateConsumer(t.Context(), "orders", "billing", ">", sequin.ConsumerOptions{AckWait: 10 * time.Minute})
	require.NoError(t, err)
	for i := range n {
		_, err := client.SendMessage(t.Context(), "orders", fmt.Sprintf("orders.%d", i), "x")
		require.NoError(t, err)
	}
	return srv
}

// acked counts the acks that the server received, by key.
func acked(srv *sequintest.Server) map[string]int {
	keyOf, keys := map[string]string{}, map[string]int{}
	for _, r := range srv.Requests(sequintest.Receive, sequintest.Ack) {
		for _, d := range r.Deliveries() {
			keyOf[d.AckID] = d.Key
		}
		for _, id := range r.AckIDs() {
			keys[keyOf[id]]++
		}
	}
	return keys
}

// A worker is stopped by SIGTERM while it works, and another one continues. The lease is ten minutes, so that a message which
// the first worker did not return would make the test time out.
func TestADeploymentUnderLoadLosesAndRepeatsNothing(t *testing.T) {
	const total = 1500
	srv := prepare(t, total)
	args := []string{"-url", srv.Listen(), "-stream", "orders", "-consumer", "billing", "-workers", "8", "-each", "2ms"}
	seen, ackedBefore := map[string]int{}, map[string]int{}
	count := func(keys []string) {
		for _, key := range keys {
			seen[key]++
			require.Zero(t, ackedBefore[key], "%s was acked and redelivered", key)
		}
	}
	for range 3 {
		p := start(t, args...)
		count(p.read(t, 200))
		count(p.terminate(t))
		ackedBefore = acked(srv)
		state, _ := srv.Stream("orders")
		require.Empty(t, state.Consumers[0].Outstanding, "no message stays leased")
		require.Len(t, seen, total-state.Consumers[0].Available)
		require.Regexp(t, `\d+ delivered, \d+ acked, 0 nacked, 0 settled too late, 0 of unknown outcome`, p.stderr.String())
	}
	last := start(t, args...)
	count(last.read(t, total-len(seen)))
	count(last.terminate(t))
	require.Len(t, seen, total, "each at least once")
	for key, n := range acked(srv) {
		require.Equal(t, 1, n, key)
	}
}

func TestAStopReportsWhatItLeft(t *testing.T) {
	srv := prepare(t, 8)
	p := start(t, "-url", srv.Listen(), "-stream", "orders", "-consumer", "billing", "-each", "10m", "-grace", "100ms")
	p.read(t, 1) // one message is started
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	var exit *exec.ExitError
	for range p.lines { // the others
	}
	require.ErrorAs(t, p.cmd.Wait(), &exit)
	require.Equal(t, exitLeft, exit.ExitCode())
	require.Regexp(t, `stopped with [1-8] deliveries unsettled`, p.stderr.String())
}

// -grace bounds the wait for the server's answers, not only that for the work.
func TestAStopDoesNotWaitForAServerThatAcceptsNoAcks(t *testing.T) {
	srv := prepare(t, 8)
	srv.Fault(sequintest.Fault{Op: sequintest.Ack, Status: 503, Body: `{"summary":"no"}`})
	p := start(t, "-url", srv.Listen(), "-stream", "orders", "-consumer", "billing", "-grace", "100ms")
	p.read(t, 8)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	hangs := time.AfterFunc(time.Minute, func() { _ = p.cmd.Process.Kill() }) // well before the lease of ten minutes ends
	defer hangs.Stop()
	var exit *exec.ExitError
	require.ErrorAs(t, p.cmd.Wait(), &exit)
	require.Equal(t, exitLeft, exit.ExitCode())
	require.Contains(t, p.stderr.String(), "stopped with 8 deliveries unsettled")
}

// requireStopped requires that a worker ended because it could not write, that no message stays leased, and that at most one
// delivery for each of its goroutines was counted.
func requireStopped(t *testing.T, srv *sequintest.Server, p *process, reason string, total, workers int) {
	t.Helper()
	var exit *exec.ExitError
	require.ErrorAs(t, p.cmd.Wait(), &exit)
	require.Equal(t, exitLeft, exit.ExitCode(), &p.stderr)
	require.Contains(t, p.stderr.String(), reason)
	state, _ := srv.Stream("orders")
	require.Empty(t, state.Consumers[0].Outstanding, "no message stays leased")
	require.Equal(t, total-len(acked(srv)), state.Consumers[0].Available)
	counted := 0
	for _, r := range srv.Requests(sequintest.Nack) {
		if !strings.Contains(string(r.Body), `"undelivered":true`) {
			counted += len(r.AckIDs())
		}
	}
	require.LessOrEqual(t, counted, workers)
}

func TestAWorkerWithAClosedPipeStops(t *testing.T) {
	const total, workers = 500, 4
	srv := prepare(t, total)
	p := workerCommand(t, "-url", srv.Listen(), "-stream", "orders", "-consumer", "billing", "-workers", fmt.Sprint(workers), "-each", "2ms")
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	_, err = bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.NoError(t, out.Close())
	requireStopped(t, srv, p, "broken pipe", total, workers)
}

func TestWrongUsageIsExplained(t *testing.T) {
	t.Setenv("SEQUIN_TOKEN", "s3cret")
	for _, row := range []struct {
		args string
		code int
		want string
	}{
		{"-h", exitDrained, "Exit codes:"},
		{"", exitUsage, "-stream and -consumer must be given"},
		{"-stream s -consumer c extra", exitUsage, `unexpected argument "extra"`},
		{"-stream s -consumer c -workers 0", exitUsage, "-workers is 0"},
		{"-stream s -consumer c -grace 0s", exitUsage, "-grace 0s"},
		{"-nonsense", exitUsage, "worker: flag provided but not defined: -nonsense\nusage: worker -stream NAME"},
		{"-stream s -consumer c -url ftp://x", exitLeft, "must begin with http"},
		{"-stream s -consumer c -url http://127.0.0.1:1", exitLeft, "cannot reach"},
	} {
		var out, stderr bytes.Buffer
		require.Equal(t, row.code, run(t.Context(), strings.Fields(row.args), &out, &stderr), row.args)
		require.Contains(t, stderr.String(), row.want, row.args)
		require.Equal(t, 1, strings.Count(stderr.String(), row.want), "once")
		require.NotContains(t, stderr.String(), "s3cret")
		require.Empty(t, out.String())
	}
}
