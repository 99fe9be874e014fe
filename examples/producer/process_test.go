package main

import (
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

// asProducer makes this test binary the command itself, so that a test can send it signals.
const asProducer = "SEQUIN_TEST_AS_PRODUCER"

func TestMain(m *testing.M) {
	if os.Getenv(asProducer) != "" {
		main()
	}
	os.Exit(m.Run())
}

// process is the command in a process of its own. All its messages have one key, so that their order is known.
type process struct {
	*exec.Cmd
	stdin io.WriteCloser
	out   *screen
}

// start runs the command; of an option that is given twice the later one counts.
func start(t *testing.T, srv *sequintest.Server, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(os.Args[0], append([]string{"-url", srv.Listen(), "-stream", "s", "-key", "k", "-grace", "50ms", "-every", "10ms"}, args...)...), out: &screen{}}
	p.Env = append(os.Environ(), asProducer+"=1")
	p.Stderr = p.out
	var err error
	p.stdin, err = p.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, p.Start())
	t.Cleanup(func() { _ = p.Process.Kill() })
	return p
}

// feed writes the lines from to to, in one piece: a process that ends meanwhile breaks no pipe.
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

// account is what a process says of its messages in the end.
type account struct{ code, read, sent, rejected, unsent int }

var (
	lastLine   = regexp.MustCompile(`(?s).*\b(\d+) read, (\d+) sent .*?(\d+) rejected`)
	unsentLine = regexp.MustCompile(`(\d+) messages were not sent`)
)

// end waits for the process.
func (p *process) end(t *testing.T) (a account) {
	t.Helper()
	_ = p.Wait() // the code says more
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

// taken returns the data of the messages that the server took, in their order.
func taken(srv *sequintest.Server) []string {
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

// troubles are those in which a start ends with messages that were not sent.
var troubles = []struct {
	name     string
	args     []string
	noStream bool
	passed   int // sends that are taken before
	status   int // of the answers to the others, and to looks at the stream; 0: the server's own
	says     string
	endless  bool // it is waited for as long as nobody says stop
}{
	{name: "a wrong token", args: []string{"-token", "wrong"}, says: "401 Unauthorized"},
	{name: "a mistyped stream", noStream: true, says: "404 Not Found"},
	{name: "a refusal midway", passed: 3, status: http.StatusForbidden, says: "403 Forbidden"},
	{name: "an outage longer than retry-for", args: []string{"-retry-for", "1ns"}, passed: 1, status: http.StatusServiceUnavailable, says: "503"},
	{name: "an outage", status: http.StatusServiceUnavailable, says: "503", endless: true},
}

// ends are how a start comes to its end in such a trouble.
var ends = []struct {
	name                string
	inputEnds, signaled bool
}{
	{"the input ends", true, false},
	{"ctrl-C while the input goes on", false, true},
	{"ctrl-C after the input has ended", true, true},
}

func TestWhatIsNotSentIsSpooledAndSentFirstAtTheNextStart(t *testing.T) {
	for _, compat := range []server.Compat{server.Documented, server.Aug2024} {
		for _, trouble := range troubles {
			for _, end := range ends {
				if trouble.endless && !end.signaled {
					continue
				}
				t.Run(compat.String()+"/"+trouble.name+"/"+end.name, func(t *testing.T) {
					t.Parallel()
					srv := sequintest.NewServer(t, sequintest.Config{Compat: compat, Token: "right", KeepRequests: 10_000})
					if !trouble.noStream {
						createStream(t, srv)
					}
					refused := srv.Fault(sequintest.Fault{Op: sequintest.Send, Skip: trouble.passed, Status: trouble.status})
					looked := srv.Fault(sequintest.Fault{Op: sequintest.GetStream, Status: trouble.status})
					spool := filepath.Join(t.TempDir(), "spool.ndjson")

					const n = 10
					first := start(t, srv, append([]string{"-token", "right", "-spool", spool}, trouble.args...)...)
					first.feed(t, lines(1, n))
					if end.inputEnds {
						require.NoError(t, first.stdin.Close())
					}
					if end.signaled {
						first.out.await(t, trouble.says)
						require.NoError(t, first.Process.Signal(os.Interrupt))
					}
					a := first.end(t)
					require.Equal(t, exitUnsent, a.code, first.out)
					require.Contains(t, first.out.String(), trouble.says)
					require.Contains(t, first.out.String(), "will be sent first at the next start")
					require.Equal(t, a.read, a.sent+a.rejected+a.unsent, first.out)
					require.Len(t, taken(srv), a.sent)
					spooled, err := options{spool: spool}.readSpool()
					require.NoError(t, err)
					require.Len(t, spooled, a.unsent)
					all := taken(srv)
					for _, m := range spooled {
						all = append(all, m.Data)
					}
					require.Equal(t, lines(1, a.read), all, "in their order")

					refused.Remove()
					looked.Remove()
					if trouble.noStream {
						createStream(t, srv)
					}
					second := start(t, srv, "-token", "right", "-spool", spool)
					second.feed(t, lines(a.read+1, a.read+5))
					require.NoError(t, second.stdin.Close())
					require.Equal(t, account{code: exitSent, read: a.unsent + 5, sent: a.unsent + 5}, second.end(t), second.out)
					require.Equal(t, lines(1, a.read+5), taken(srv), "the spool first")
					require.NoFileExists(t, spool)
				})
			}
		}
	}
}
