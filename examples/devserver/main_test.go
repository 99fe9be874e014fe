package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

// process is a running devserver.
type process struct {
	*exec.Cmd
	tour   []string // the printed commands
	output *bufio.Reader
}

// build returns the path of the program.
func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "devserver")
	built, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput()
	require.NoErrorf(t, err, "%s", built)
	return binary
}

// start runs the program on a free port and reads what it prints first.
func start(t *testing.T, binary string, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(binary, append([]string{"-addr", "127.0.0.1:0"}, args...)...)}
	out, err := p.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.Start())
	t.Cleanup(func() { _ = p.Process.Kill() })
	p.output = bufio.NewReader(out)
	for blank := 0; blank < 2; {
		line, err := p.output.ReadString('\n')
		require.NoError(t, err)
		if line == "\n" {
			blank++
		} else if blank == 1 {
			p.tour = append(p.tour, line)
		}
	}
	return p
}

var (
	headerFlag = regexp.MustCompile(`-H '([^:]*): ([^']*)'`)
	urlWord    = regexp.MustCompile(`http://\S+`)
	dataFlag   = regexp.MustCompile(`-d '([^']*)'`)
	ackedID    = regexp.MustCompile(`-d '\{"ack_ids":\["'\$\(.*\)'"\]\}'`)
)

// request returns the request that curl would send for a printed line.
func request(t *testing.T, line, ackID string) *http.Request {
	t.Helper()
	line = ackedID.ReplaceAllLiteralString(line, `-d '{"ack_ids":["`+ackID+`"]}'`)
	body := dataFlag.FindStringSubmatch(line)
	require.NotNilf(t, body, "%s", line)
	require.Truef(t, json.Valid([]byte(body[1])), "%s", body[1])
	r, err := http.NewRequest(http.MethodPost, urlWord.FindString(line), strings.NewReader(body[1]))
	require.NoError(t, err)
	for _, header := range headerFlag.FindAllStringSubmatch(line, -1) {
		r.Header.Set(header[1], header[2])
	}
	return r
}

// poll sends the printed receive, which waits, until the server has a place for it.
func (p *process) poll(t *testing.T, answered chan<- string) {
	for {
		got, err := http.DefaultClient.Do(request(t, p.tour[3], ""))
		if err != nil {
			answered <- err.Error()
			return
		}
		body, _ := io.ReadAll(got.Body)
		_ = got.Body.Close()
		if got.StatusCode != http.StatusTooManyRequests {
			answered <- string(body)
			return
		}
	}
}

// awaitPoll returns when poll waits: the server has one place, and refuses another receive then.
func (p *process) awaitPoll(t *testing.T) {
	t.Helper()
	for p.send(t, http.MethodPost, "/receive", `{"wait_for":500}`) != http.StatusTooManyRequests {
	}
}

// send sends a request about the printed consumer and returns the status.
func (p *process) send(t *testing.T, method, path, body string) int {
	t.Helper()
	r, err := http.NewRequest(method, strings.TrimSuffix(urlWord.FindString(p.tour[3]), "/receive")+path, strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	got, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	require.NoError(t, got.Body.Close())
	return got.StatusCode
}

// The test also leaves a long poll open, for which a stop must not wait.
func TestThePrintedCommandsWorkAndASignalStopsTheServer(t *testing.T) {
	binary := build(t)
	for name, args := range map[string][]string{
		"documented": {}, "aug2024": {"-compat", "aug2024"}, "token": {"-token", "secret"},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, binary, args...)
			require.Len(t, p.tour, 5)
			var ackID string
			for _, line := range p.tour {
				got, err := http.DefaultClient.Do(request(t, line, ackID))
				require.NoError(t, err)
				body, err := io.ReadAll(got.Body)
				require.NoError(t, err)
				require.NoError(t, got.Body.Close())
				require.Equalf(t, http.StatusOK, got.StatusCode, "%s%s", line, body)
				if id := regexp.MustCompile(`"ack_id":"([^"]*)"`).FindSubmatch(body); id != nil {
					ackID = string(id[1])
				}
			}
			require.NotEmpty(t, ackID)
			answered := make(chan string, 1)
			if name == "documented" {
				require.Equal(t, http.StatusOK, p.send(t, http.MethodPatch, "", `{"max_waiting":1}`))
				go p.poll(t, answered)
				p.awaitPoll(t)
			}
			require.NoError(t, p.Process.Signal(syscall.SIGTERM))
			rest, err := io.ReadAll(p.output)
			require.NoError(t, err)
			require.Equal(t, "stopped\n", string(rest))
			require.NoError(t, p.Wait())
			if name == "documented" {
				require.Equal(t, `{"data":[]}`, <-answered, "the long poll was woken, not cancelled")
			}
		})
	}
}

// A function that prints its arguments replaces curl.
func TestATokenReachesTheServerWhateverItContains(t *testing.T) {
	for _, token := range []string{"plain", "it's", "'", "a'; echo broken out; '", "$HOME `id` \\ \"x\"", "two  spaces"} {
		var tour strings.Builder
		printTour(&tour, "http://127.0.0.1:7376", server.Config{Token: token})
		lines := strings.SplitAfter(strings.SplitN(tour.String(), "\n\n", 3)[1], "\n")
		require.Len(t, lines, 5)
		for _, line := range lines {
			out, err := exec.Command("sh", "-c", `curl() { printf '%s\n' "$@" >&2; }; `+line).CombinedOutput()
			require.NoErrorf(t, err, "%s", out)
			require.Contains(t, strings.Split(string(out), "\n"), "Authorization: Bearer "+token)
			require.NotContains(t, strings.Split(string(out), "\n"), "broken out")
		}
	}
}

func TestTheTokenOfTheEnvironmentIsRequiredAndNotPrinted(t *testing.T) {
	t.Setenv("SEQUIN_TOKEN", "s3cret")
	o, err := parse(nil, io.Discard)
	require.NoError(t, err)
	require.Equal(t, "s3cret", o.server.Token)
	var tour, help strings.Builder
	printTour(&tour, "http://127.0.0.1:7376", o.server)
	require.Contains(t, tour.String(), `-H "Authorization: Bearer $SEQUIN_TOKEN"`)
	require.NotContains(t, tour.String(), "s3cret")
	_, err = parse([]string{"-h"}, &help)
	require.ErrorIs(t, err, flag.ErrHelp)
	require.NotContains(t, help.String(), "s3cret")
	o, err = parse([]string{"-token", "other"}, io.Discard)
	require.NoError(t, err)
	require.Equal(t, "other", o.server.Token)
}

func TestAPublicAddressNeedsTheFlag(t *testing.T) {
	var out bytes.Buffer
	o, err := parse([]string{"-addr", "0.0.0.0:0"}, &out)
	require.NoError(t, err)
	require.ErrorContains(t, run(t.Context(), o, &out), "can be reached from other machines")
	require.Empty(t, out.String())
}

func TestAnAddressInUseIsReported(t *testing.T) {
	p := start(t, build(t))
	taken := strings.TrimPrefix(urlWord.FindString(p.tour[0]), "http://")
	taken, _, _ = strings.Cut(taken, "/")
	o, err := parse([]string{"-addr", taken}, io.Discard)
	require.NoError(t, err)
	var failed *net.OpError
	require.ErrorAs(t, run(t.Context(), o, io.Discard), &failed)
	require.Equal(t, "listen", failed.Op)
	require.NoError(t, p.Process.Signal(os.Interrupt))
	require.NoError(t, p.Wait())
}

func TestWrongArgumentsAreRefused(t *testing.T) {
	for _, args := range [][]string{{"-compat", "2023"}, {"-port", "1"}, {"more"}} {
		var out bytes.Buffer
		_, err := parse(args, &out)
		require.Error(t, err)
		require.Equal(t, 1, strings.Count(out.String(), err.Error()), "once")
		require.Contains(t, out.String(), "usage: devserver [options]")
	}
}
