package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/cmd/sequin/internal/clitest"
)

// TestServePrintsHowToUseIt compares what is printed, without the port.
func TestServePrintsHowToUseIt(t *testing.T) {
	token := clitest.File(t, "0123456789abcdef\n")
	for _, tt := range []struct {
		env, args []string
		want      string
	}{
		{nil, nil, `
  URL     http://127.0.0.1:PORT
  console http://127.0.0.1:PORT/console
  data    in memory, lost when the server stops
  store   memory, as documented
  access  this machine, without a token
  try     curl -sS http://127.0.0.1:PORT/api/streams -H 'Content-Type: application/json' -d '{"name":"orders"}'
  in Go   sequin.NewClient(sequin.Config{BaseURL: "http://127.0.0.1:PORT"})
  stop    ctrl-C
`},
		{[]string{"SEQUIN_TOKEN", "0123456789abcdef"}, []string{"--compat", "aug2024", "--addr", "localhost:0"}, `
  URL     http://localhost:PORT
  console http://localhost:PORT/console
  data    in memory, lost when the server stops
  store   memory, as aug2024
  access  this machine, with the token of $SEQUIN_TOKEN
  try     curl -sS http://localhost:PORT/api/streams -H "Authorization: Bearer $SEQUIN_TOKEN" -H 'Content-Type: application/json' -d '{"name":"orders"}'
  in Go   sequin.NewClient(sequin.Config{BaseURL: "http://localhost:PORT"}), with $SEQUIN_TOKEN set
  stop    ctrl-C
`},
		{nil, []string{"--token-file", token, "--addr", "0.0.0.0:0"}, `
  URL     http://127.0.0.1:PORT
  console http://127.0.0.1:PORT/console
  data    in memory, lost when the server stops
  store   memory, as documented
  access  every machine that can reach [::]:PORT, with the token of ` + token + `
  try     curl -sS http://127.0.0.1:PORT/api/streams -H "Authorization: Bearer $(cat '` + token + `')" -H 'Content-Type: application/json' -d '{"name":"orders"}'
  in Go   sequin.NewClient(sequin.Config{BaseURL: "http://127.0.0.1:PORT"}), with $SEQUIN_TOKEN set
  stop    ctrl-C
`},
	} {
		p := start(t, clitest.Environment(tt.env...), append([]string{"--memory"}, tt.args...)...)
		port := regexp.MustCompile(`:(\d+)\n`).FindStringSubmatch(p.usage)[1]
		require.Equal(t, "sequin "+sequin.Version+"\n"+tt.want+"\n", strings.ReplaceAll(p.usage, port, "PORT"))
		require.NotContains(t, p.usage+p.errors.String(), "0123456789abcdef")
	}
}

// tryLine is the command that serve prints.
var tryLine = regexp.MustCompile(`(?m)^  try +(.*)$`)

// TestThePrintedCommandWorks runs it in a shell in which a function that prints its arguments replaces curl.
func TestThePrintedCommandWorks(t *testing.T) {
	token := clitest.File(t, "it's-$HOME`id`\"\n")
	p := start(t, clitest.Environment(), "--memory", "--token-file", token)
	run := func(usage string) string {
		sh := exec.Command("sh", "-c", `curl() { printf '%s\n' "$@"; }; `+tryLine.FindStringSubmatch(usage)[1])
		out, err := sh.Output()
		require.NoError(t, err)
		words := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
		require.Equal(t, "-sS", words[0])
		method, body := http.MethodGet, ""
		r, err := http.NewRequest(method, words[1], nil)
		require.NoError(t, err)
		for i := 2; i < len(words); i += 2 {
			switch name, value, _ := strings.Cut(words[i+1], ": "); words[i] {
			case "-H":
				r.Header.Set(name, value)
			case "-d":
				method, body = http.MethodPost, words[i+1]
			}
		}
		r.Method, r.Body = method, io.NopCloser(strings.NewReader(body))
		resp, err := p.client.Do(r)
		require.NoError(t, err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equalf(t, http.StatusOK, resp.StatusCode, "%s", text)
		return string(text)
	}
	require.Contains(t, run(p.usage), `"name":"orders"`)
}

func TestAnAddressThatOthersReachNeedsAToken(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":0"} {
		code, _, errors := runNow(clitest.Environment(), "serve", "--memory", "--addr", addr)
		require.Equal(t, cli.ExitUsage, code)
		require.Contains(t, errors, "give one with --token-file or $SEQUIN_TOKEN, listen on 127.0.0.1, or add --insecure")
	}
	p := start(t, clitest.Environment("SEQUIN_INSECURE", "true"), "--memory", "--addr", ":0")
	status, _ := p.do("GET", "/api/streams", "", "Host", "example.com", "X-Forwarded-For", "10.0.0.1")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, p.usage, "without a token")
}

func TestMetricsNeedTheTokenWhereOthersReachThem(t *testing.T) {
	const token = "0123456789abcdef"
	for addr, want := range map[string]int{"127.0.0.1:0": http.StatusOK, "0.0.0.0:0": http.StatusUnauthorized} {
		p := start(t, clitest.Environment("SEQUIN_TOKEN", token), "--memory", "--addr", addr)
		for path, want := range map[string]int{
			"/metrics": want, "/healthz": http.StatusOK, "/readyz": http.StatusOK, "/api/streams": http.StatusUnauthorized,
		} {
			status, body := p.do("GET", path, "")
			require.Equal(t, want, status, path)
			require.NotContains(t, body, token)
		}
		status, _ := p.do("GET", "/metrics", "", "Authorization", "Bearer "+token)
		require.Equal(t, http.StatusOK, status)
	}
}

func TestAServerWithoutATokenIsForThisMachineAlone(t *testing.T) {
	p := start(t, clitest.Environment(), "--memory")
	for header, value := range map[string]string{"Host": "example.com", "X-Forwarded-For": "10.0.0.1", "Forwarded": "for=10.0.0.1"} {
		for _, path := range []string{"/api/streams", "/metrics"} {
			status, body := p.do("GET", path, "", header, value)
			require.Equal(t, http.StatusForbidden, status)
			require.Contains(t, body, "Start it with a token")
		}
	}
	status, _ := p.do("POST", "/api/streams", `{"name":"s"}`, "Origin", "https://example.com")
	require.Equal(t, http.StatusForbidden, status)
	require.Contains(t, p.ok("GET", "/api/streams", ""), `{"data":[]}`)
}

func TestMetricsCountRequests(t *testing.T) {
	p := start(t, clitest.Environment(), "--memory", "--log-level", "debug", "--log-format", "json")
	p.ok("POST", "/api/streams", `{"name":"s"}`)
	p.do("GET", "/api/streams/nope", "")
	text := p.ok("GET", "/metrics", "")
	for _, line := range []string{
		`sequin_requests_total{route="POST api/streams",status="200"} 1`,
		`sequin_requests_total{route="GET api/streams/*",status="404"} 1`,
		`sequin_request_duration_seconds_count{route="POST api/streams"} 1`,
		`sequin_request_bytes_total{route="POST api/streams"} 12`,
		`sequin_streams 1`, `sequin_connections 1`, `sequin_requests_running 1`, `sequin_receives_waiting 0`, `sequin_bytes_in_flight 0`,
		`,version="` + sequin.Version + `"} 1`, `go_goroutines `, `process_start_time_seconds `,
	} {
		require.Contains(t, text, line)
	}
	var first struct{ Msg, Route string }
	require.NoError(t, json.Unmarshal([]byte(strings.SplitN(p.errors.String(), "\n", 2)[0]), &first))
	require.Equal(t, "request", first.Msg)
	require.Equal(t, "POST api/streams", first.Route)
}

// TestEachLimitReachesTheServer asks for one more than each limit allows.
func TestEachLimitReachesTheServer(t *testing.T) {
	p := start(t, clitest.Environment("SEQUIN_MAX_STREAMS", "1"), "--memory", "--max-request-bytes", "1kB", "--max-waiting", "1")
	p.ok("POST", "/api/streams", `{"name":"s"}`)
	p.ok("POST", "/api/streams/s/consumers", `{"name":"c","filter_key_pattern":">"}`)
	status, _ := p.do("POST", "/api/streams", `{"name":"other"}`)
	require.Equal(t, http.StatusUnprocessableEntity, status)
	status, _ = p.do("POST", "/api/streams/s/messages", strings.Repeat(" ", 1001))
	require.Equal(t, http.StatusRequestEntityTooLarge, status)

	waiting := p.startWaiting("s/consumers/c")
	p.signals <- os.Interrupt
	require.Equal(t, `{"data":[]}`, <-waiting)
}

// TestConnectionsThatDoNothingAreClosed opens one that sends nothing, one that sends one request, and one that sends half of one.
func TestConnectionsThatDoNothingAreClosed(t *testing.T) {
	p := start(t, clitest.Environment(), "--memory", "--idle-timeout", "50ms", "--header-timeout", "50ms")
	for _, begin := range []string{"", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", "GET /healthz HTTP/1.1\r\nHost: loc"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		require.NoError(t, err)
		_, err = io.WriteString(conn, begin)
		require.NoError(t, err)
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
		_, err = io.Copy(io.Discard, conn) // until the server closes the connection
		require.NoError(t, err)
		require.NoError(t, conn.Close())
	}
}

func TestTheLimitOfConnectionsReachesTheServer(t *testing.T) {
	p := start(t, clitest.Environment(), "--memory", "--max-connections", "1", "--max-bytes-in-flight", "8MB")
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	fmt.Fprint(conn, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	status, _ := p.do("GET", "/api/streams", "")
	require.Equal(t, http.StatusServiceUnavailable, status)
}
