package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/sequintest"
)

// screen is a stderr that several goroutines write to.
type screen struct {
	mu   sync.Mutex
	b    bytes.Buffer
	more chan struct{} // closed by the next write; nil if nobody waits
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.more != nil {
		close(s.more)
		s.more = nil
	}
	return s.b.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// await waits until text is on the screen.
func (s *screen) await(t *testing.T, text string) {
	t.Helper()
	for {
		s.mu.Lock()
		if s.more == nil {
			s.more = make(chan struct{})
		}
		shown, more := s.b.String(), s.more
		s.mu.Unlock()
		if strings.Contains(shown, text) {
			return
		}
		select {
		case <-more:
		case <-t.Context().Done():
			require.FailNow(t, "the text did not appear", "%s\n%s", text, shown)
		}
	}
}

// try runs the command in this process, with a server, and returns its exit code and its output.
func try(t *testing.T, srv *sequintest.Server, stdin string, args ...string) (int, string) {
	t.Helper()
	var out screen
	code := run(t.Context(), append([]string{"-url", srv.Listen()}, args...), strings.NewReader(stdin), &out, false)
	return code, out.String()
}

// stored returns the data of the stream by key.
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
	require.NotContains(t, out, "\x1b", "no control sequences without a terminal")
}

func TestRejectedRecordsAreReportedAndWritten(t *testing.T) {
	srv := sequintest.NewServer(t, sequintest.Config{})
	srv.Fault(sequintest.Fault{Op: sequintest.Send, Status: 422, Body: `{"summary":"not this one"}`, Match: func(r *sequintest.Request) bool {
		return bytes.Contains(r.Body, []byte("poison"))
	}})
	rejects := filepath.Join(t.TempDir(), "rejects.ndjson")
	code, out := try(t, srv, "{\"id\":\"good\"}\n{\"id\":\"a b\"}\nnothing\n{\"id\":\"poison\"}\n", "-stream", "s", "-create", "-format", "ndjson", "-key", "k.{id}", "-rejects", rejects)
	require.Equal(t, exitUnsent, code)
	require.Len(t, stored(srv, "s"), 1)
	require.Contains(t, out, `record 2: {id}: "a b" contains ' '`)
	require.Contains(t, out, "record 3: not a record")
	require.Contains(t, out, "not this one")
	require.Contains(t, out, "3 records were rejected")
	written, err := os.ReadFile(rejects)
	require.NoError(t, err)
	require.Equal(t, 3, bytes.Count(written, []byte("\n")))
	require.Contains(t, string(written), `"key":"k.poison"`)
}

func TestAMistypedStreamEndsTheRunAndItsLossIsReported(t *testing.T) {
	srv := sequintest.NewServer(t, sequintest.Config{})
	code, out := try(t, srv, strings.Repeat("x\n", 50_000), "-stream", "typo", "-grace", "1ms")
	require.Equal(t, exitUnsent, code)
	require.Regexp(t, `reading ended after record \d+: .*404 Not Found.*; -skip \d+ continues there`, out)
	require.Regexp(t, `\d+ failed, the first: message "records.\d+": .*404 Not Found.*; these were lost, from key "records.1" to key .* -spool would have kept them`, out)
}

func TestAFailedMessageIsNotSpooledAfterALaterVersionWasSent(t *testing.T) {
	srv := sequintest.NewServer(t, sequintest.Config{})
	spool := filepath.Join(t.TempDir(), "spool")
	srv.Fault(sequintest.Fault{Op: sequintest.Send, Status: 503, Body: `{"summary":"no"}`, Count: 1})
	code, out := try(t, srv, "old\nnew\n", "-stream", "s", "-create", "-key", "k", "-retry-for", "1ns", "-spool", spool)
	require.Equal(t, exitUnsent, code)
	require.Contains(t, out, `rejected: key "k": a later message of its key was sent; this one had failed: sequin: POST /api/streams/s/messages: 503`)
	require.Regexp(t, "2 read, 1 sent .* 0 failed, 1 rejected\n", out)
	require.Equal(t, map[string]string{"k": "new"}, stored(srv, "s"))
	require.NoFileExists(t, spool)
}

func TestASpoolThatIsRefusedAgainIsUnchanged(t *testing.T) {
	srv := sequintest.NewServer(t, sequintest.Config{})
	var text strings.Builder
	for i := range 30_000 { // more than a Publisher buffers, so that the refusal comes in the middle
		fmt.Fprintf(&text, "{\"key\":\"k\",\"data\":\"%d\"}\n", i)
	}
	spool := file(t, "spool", text.String())
	code, out := try(t, srv, "never read\n", "-stream", "typo", "-spool", spool, "-grace", "1ms")
	require.Equal(t, exitUnsent, code)
	require.Regexp(t, `reading ended after message \d+ of \S+: .*404 Not Found`, out)
	require.Contains(t, out, "30000 read, 0 sent")
	require.Contains(t, out, "30000 messages were not sent")
	again, err := os.ReadFile(spool)
	require.NoError(t, err)
	require.Equal(t, text.String(), string(again))
}

// The buffer is full when ctrl-C comes, and the server is available again right after it.
func TestTheRecordThatWaitsForRoomIsSentAfterCtrlC(t *testing.T) {
	srv := sequintest.NewServer(t, sequintest.Config{})
	gate := srv.Fault(sequintest.Fault{Op: sequintest.Send, Delay: time.Hour})
	ctx, interrupt := context.WithCancel(t.Context())
	var out screen
	ended := make(chan int)
	go func() {
		ended <- run(ctx, []string{"-url", srv.Listen(), "-stream", "s", "-create", "-every", "1ms"}, strings.NewReader(strings.Repeat("x\n", 50_000)), &out, false)
	}()
	out.await(t, " 20000 buffered")
	interrupt()
	gate.Remove()
	require.Equal(t, exitUnsent, <-ended)
	require.Contains(t, out.String(), ": interrupted; -skip")
	require.NotContains(t, out.String(), "were not sent")
	require.Regexp(t, fmt.Sprintf(`\b(%d) read, %[1]d sent`, len(stored(srv, "s"))), out.String())
}

func TestABrokenInputInAnOutageEndsWithinTheGraceTime(t *testing.T) {
	srv := sequintest.NewServer(t, sequintest.Config{})
	srv.Fault(sequintest.Fault{Op: sequintest.Send, Status: 503, Body: `{"summary":"no"}`})
	code, out := try(t, srv, "a,b\n1,2\n\"x\"y,3\n", "-stream", "s", "-create", "-format", "csv", "-grace", "1ms")
	require.Equal(t, exitUnsent, code)
	require.Contains(t, out, "reading after record 1: parse error on line 3")
	require.Contains(t, out, "-grace is over")
	require.Contains(t, out, "1 messages were not sent; these were lost")
}

func TestTooManyFailuresEndReading(t *testing.T) {
	srv := sequintest.NewServer(t, sequintest.Config{})
	outage := srv.Fault(sequintest.Fault{Op: sequintest.Send, Status: 503, Body: `{"summary":"no"}`})
	spool := filepath.Join(t.TempDir(), "spool")
	const n = 2*maxFailed + maxPending // more than can be pending when that many have failed
	var input strings.Builder
	for i := range n {
		fmt.Fprintln(&input, "line", i+1)
	}
	args := []string{"-stream", "s", "-create", "-key", "k.{line}", "-spool", spool, "-retry-for", "1ns", "-grace", "1ms"}
	code, out := try(t, srv, input.String(), args...)
	require.Equal(t, exitUnsent, code)
	went := regexp.MustCompile(`reading ended after record (\d+): 10000 messages have failed; -skip (\d+) continues there`).FindStringSubmatch(out)
	require.Lenf(t, went, 3, "%.2000s", out)

	outage.Remove()
	code, out = try(t, srv, input.String(), append(args, "-skip", went[1])...)
	require.Zero(t, code, out)
	require.Contains(t, out, fmt.Sprintf("%d read, %d sent", n, n), "some from the spool, the others from the input")
	all := stored(srv, "s")
	require.Len(t, all, n)
	for i := range n {
		require.Equal(t, fmt.Sprintf("line %d", i+1), all[fmt.Sprintf("k.%d", i+1)])
	}
}

func TestAMessageThatCanNeverBeSentLeavesTheSpool(t *testing.T) {
	srv := sequintest.NewServer(t, sequintest.Config{})
	spool := file(t, "spool", `{"key":"written by hand","data":"1"}{"key":"fine","data":"2"}`)
	code, out := try(t, srv, "", "-stream", "s", "-create", "-spool", spool)
	require.Equal(t, exitUnsent, code)
	require.Contains(t, out, `rejected: key "written by hand"`)
	require.Contains(t, out, "1 records were rejected")
	require.Equal(t, map[string]string{"fine": "2"}, stored(srv, "s"))
	require.NoFileExists(t, spool)
}

func TestAnErrorIsPrintedOnce(t *testing.T) {
	srv := sequintest.NewServer(t, sequintest.Config{})
	srv.Fault(sequintest.Fault{Op: sequintest.Send, Status: 404, Body: `{"summary":"there is no such stream"}`})
	code, out := try(t, srv, "one\ntwo\n", "-stream", "s", "-create", "-format", "lines", "-grace", "0s")
	require.Equal(t, exitUnsent, code)
	require.Equal(t, 1, strings.Count(out, "there is no such stream"), out)
}

func TestWrongArgumentsAreExplained(t *testing.T) {
	t.Setenv("SEQUIN_TOKEN", "s3cret")
	for _, row := range []struct {
		args []string
		says string
	}{
		{[]string{}, "-stream is needed"},
		{[]string{"-stream", "s", "-format", "xml"}, "must be ndjson, csv or lines"},
		{[]string{"-stream", "s", "-key", "{"}, "needs a name"},
		{[]string{"-stream", "s", "-grace", "-1s"}, "must not be negative"},
		{[]string{"-stream", "s", "a", "b"}, `unexpected argument "b"`},
		{[]string{"-stream", "s", filepath.Join("no", "such", "file")}, "no such file"},
		{[]string{"-nonsense"}, "producer: flag provided but not defined: -nonsense\nusage: producer -stream NAME"},
	} {
		var out screen
		require.Equal(t, exitUsage, run(t.Context(), row.args, strings.NewReader(""), &out, false))
		require.Equal(t, 1, strings.Count(out.String(), row.says), "%q once in %q", row.says, out.String())
	}
	var out screen
	require.Equal(t, exitSent, run(t.Context(), []string{"-h"}, strings.NewReader(""), &out, false))
	require.Contains(t, out.String(), "A second ctrl-C")
	require.NotContains(t, out.String(), "s3cret")
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
