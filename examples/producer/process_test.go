package main

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// asProducer makes the test binary run the command, so that a test can send it signals.
const asProducer = "SEQUIN_TEST_AS_PRODUCER"

func TestMain(m *testing.M) {
	if os.Getenv(asProducer) != "" {
		main()
	}
	os.Exit(m.Run())
}

// process is the command in a process of its own. All of its messages have one key, so that their order is known.
type process struct {
	*exec.Cmd
	stdin io.WriteCloser
	out   *screen
}

// start starts the command. If an option is given twice, the second one counts.
func start(t *testing.T, srv *sequintest.Server, token string, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(os.Args[0], append([]string{"-url", srv.Listen(), "-stream", "s", "-key", "k", "-grace", "50ms", "-every", "10ms"}, args...)...), out: &screen{}}
	p.Env = append(os.Environ(), asProducer+"=1", "SEQUIN_TOKEN="+token)
	p.Stderr = p.out
	var err error
	p.stdin, err = p.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, p.Start())
	t.Cleanup(func() { _ = p.Process.Kill() })
	return p
}

// feed writes the lines in one piece, so that a process that ends meanwhile does not break the pipe.
func (p *process) feed(t *testing.T, lines []string) {
	t.Helper()
	_, err := io.WriteString(p.stdin, strings.Join(lines, "\n")+"\n")
	require.NoError(t, err)
}

func lines(from, to int) (all []string) {
	for i := from; i <= to; i++ {
		all = append(all, fmt.Sprintf("line %d", i))
	}
	return all
}

// account is what a process reports about its messages when it ends.
type account struct{ code, read, sent, rejected, unsent int }

var (
	lastLine   = regexp.MustCompile(`(?s).*\b(\d+) read, (\d+) sent .*?(\d+) rejected`)
	unsentLine = regexp.MustCompile(`(\d+) messages were not sent`)
)

// end waits for the process and reads its report.
func (p *process) end(t *testing.T) (a account) {
	t.Helper()
	_ = p.Wait() // the exit code says more
	a.code = p.ProcessState.ExitCode()
	out := p.out.String()
	last := lastLine.FindStringSubmatch(out)
	require.NotNil(t, last, out)
	for i, n := range []*int{&a.read, &a.sent, &a.rejected} {
		*n, _ = strconv.Atoi(last[i+1])
	}
	if unsent := unsentLine.FindStringSubmatch(out); unsent != nil {
		a.unsent, _ = strconv.Atoi(unsent[1])
	}
	return a
}

// accepted returns the data of the messages that the server stored, in order.
func accepted(srv *sequintest.Server) []string {
	all := []string{}
	for _, r := range srv.Requests(sequintest.Send) {
		if !r.Acted || r.Status != http.StatusOK {
			continue
		}
		for _, m := range r.Messages() {
			all = append(all, m.Data)
		}
	}
	return all
}

func createStream(t *testing.T, srv *sequintest.Server) {
	t.Helper()
	client, err := sequin.NewClient(sequin.Config{BaseURL: srv.URL, HTTPClient: srv.Client(), Token: "right"})
	require.NoError(t, err)
	_, err = client.CreateStream(t.Context(), "s", sequin.StreamOptions{})
	require.NoError(t, err)
}

// failures are the conditions under which a run ends with unsent messages.
var failures = []struct {
	name     string
	args     []string
	token    string // instead of the right one
	noStream bool
	passed   int    // sends that are accepted before
	status   int    // of the answers to the other sends, and to reads of the stream; 0 for the server's own
	body     string // of those answers
	says     string
	endless  bool // the command waits until it is interrupted
}{
	{name: "a wrong token", token: "wrong", says: "401 Unauthorized"},
	{name: "a mistyped stream", noStream: true, says: "404 Not Found"},
	{name: "a refusal midway", passed: 3, status: http.StatusForbidden, body: `{"summary":"no"}`, says: "403 Forbidden"},
	{name: "an outage longer than retry-for", args: []string{"-retry-for", "1ns"}, passed: 1, status: http.StatusServiceUnavailable, says: "503"},
	{name: "an outage", status: http.StatusServiceUnavailable, says: "503", endless: true},
}

// ends are the ways in which a run ends under such a condition.
var ends = []struct {
	name                string
	inputEnds, signaled bool
}{
	{"the input ends", true, false},
	{"ctrl-C while the input goes on", false, true},
	{"ctrl-C after the input has ended", true, true},
}

func TestUnsentMessagesAreSpooledAndSentFirstAtTheNextStart(t *testing.T) {
	for _, compat := range []server.Compat{server.Documented, server.Aug2024} {
		for _, failure := range failures {
			for _, end := range ends {
				if failure.endless && !end.signaled {
					continue
				}
				t.Run(compat.String()+"/"+failure.name+"/"+end.name, func(t *testing.T) {
					t.Parallel()
					srv := sequintest.NewServer(t, sequintest.Config{Compat: compat, Token: "right", KeepRequests: 10_000})
					if !failure.noStream {
						createStream(t, srv)
					}
					refused := srv.Fault(sequintest.Fault{Op: sequintest.Send, Skip: failure.passed, Status: failure.status, Body: failure.body})
					looked := srv.Fault(sequintest.Fault{Op: sequintest.GetStream, Status: failure.status, Body: failure.body})
					spool := filepath.Join(t.TempDir(), "spool.ndjson")

					const n = 10
					first := start(t, srv, cmp.Or(failure.token, "right"), append([]string{"-spool", spool}, failure.args...)...)
					first.feed(t, lines(1, n))
					if end.inputEnds {
						require.NoError(t, first.stdin.Close())
					}
					if end.signaled {
						first.out.await(t, failure.says)
						require.NoError(t, first.Process.Signal(os.Interrupt))
					}
					a := first.end(t)
					require.Equal(t, exitUnsent, a.code, first.out)
					require.Contains(t, first.out.String(), failure.says)
					require.Contains(t, first.out.String(), "will be sent first at the next start")
					require.Equal(t, a.read, a.sent+a.rejected+a.unsent, first.out)
					require.Len(t, accepted(srv), a.sent)
					spooled, err := options{spool: spool}.readSpool()
					require.NoError(t, err)
					require.Len(t, spooled, a.unsent)
					all := accepted(srv)
					for _, m := range spooled {
						all = append(all, m.Data)
					}
					require.Equal(t, lines(1, a.read), all, "in order")

					refused.Remove()
					looked.Remove()
					if failure.noStream {
						createStream(t, srv)
					}
					second := start(t, srv, "right", "-spool", spool)
					second.feed(t, lines(a.read+1, a.read+5))
					require.NoError(t, second.stdin.Close())
					require.Equal(t, account{code: exitSent, read: a.unsent + 5, sent: a.unsent + 5}, second.end(t), second.out)
					require.Equal(t, lines(1, a.read+5), accepted(srv), "the spool first")
					require.NoFileExists(t, spool)
				})
			}
		}
	}
}
