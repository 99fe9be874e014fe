package server_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

// ask sends a request with a Host and headers, which come in pairs, and returns the status and the body.
func (a *api) ask(method, host, path string, headers ...string) (int, string) {
	r := httptest.NewRequest(method, path, strings.NewReader("{}"))
	r.Host = host
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func TestAServerForLoopbackOnlyRefusesOtherHosts(t *testing.T) {
	a := newAPI(t, server.Config{LoopbackOnly: true})
	open := newAPI(t, server.Config{})
	for host, want := range map[string]int{
		"localhost:7376": 200, "localhost": 200, "LOCALHOST.": 200, "app.localhost:1": 200, "127.0.0.1:7376": 200, "127.8.9.1": 200,
		"[::1]:7376": 200, "[::1]": 200,
		"": 403, "example.com": 403, "example.com:7376": 403, "localhost.example.com": 403, "notlocalhost": 403, "127.0.0.1.nip.io": 403,
		"10.0.0.1:7376": 403, "0.0.0.0": 403, "[::]:7376": 403, "169.254.169.254": 403,
	} {
		status, body := a.ask("GET", host, "/api/streams")
		require.Equal(t, want, status, host)
		if want == 403 {
			require.Contains(t, body, `"summary":"Forbidden: this server has no token`)
		}
		status, _ = open.ask("GET", host, "/api/streams")
		require.Equal(t, 200, status, host)
	}
}

func TestAServerForLoopbackOnlyRefusesWhatAProxyForwarded(t *testing.T) {
	a := newAPI(t, server.Config{LoopbackOnly: true})
	for _, header := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Anything", "X-Real-IP", "Via"} {
		for _, path := range []string{"/api/streams", "/api/streams/s/consumers/c/receive", "/nope"} {
			status, body := a.ask("GET", "localhost", path, header, "")
			require.Equal(t, http.StatusForbidden, status, header)
			require.Contains(t, body, "with a token to put it behind a proxy")
		}
		status, _ := newAPI(t, server.Config{}).ask("GET", "localhost", "/api/streams", header, "x")
		require.Equal(t, http.StatusOK, status)
	}
}

// changing lists every route that changes something. A receive does, with every method.
var changing = [][2]string{
	{"POST", "/api/streams"}, {"PUT", "/api/streams/s"}, {"PATCH", "/api/streams/s"}, {"DELETE", "/api/streams/s"},
	{"POST", "/api/streams/s/messages"},
	{"POST", "/api/streams/s/consumers"}, {"PUT", "/api/streams/s/consumers/c"}, {"PATCH", "/api/streams/s/consumers/c"}, {"DELETE", "/api/streams/s/consumers/c"},
	{"GET", "/api/streams/s/consumers/c/receive"}, {"GET", "//api/streams/s/consumers/c//receive//"}, {"HEAD", "/api/streams/s/consumers/c/receive"},
	{"GET", "/api/streams/s/consumers/c/%72eceive"}, {"POST", "/api/streams/s/consumers/c/receive"},
	{"POST", "/api/streams/s/consumers/c/ack"}, {"POST", "/api/streams/s/consumers/c/nack"},
}

func TestAWebPageOfAnotherOriginChangesNothing(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	a.send("a=1")
	foreign := [][]string{
		{"Origin", "https://example.com"}, {"Origin", "null"}, {"Origin", "http://localhost:8080"}, {"Origin", "::"},
		{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Sec-Fetch-Site", "same-site", "Origin", "http://localhost:7376"},
	}
	for _, route := range changing {
		for _, headers := range foreign {
			status, body := a.ask(route[0], "localhost:7376", route[1], headers...)
			require.Equal(t, http.StatusForbidden, status, "%v %v", route, headers)
			require.Contains(t, body, "a web page of another origin")
		}
		for _, headers := range [][]string{{"Origin", "http://localhost:7376"}, {"Sec-Fetch-Site", "same-origin"}, {"Sec-Fetch-Site", "none"}} {
			status, _ := a.ask(route[0], "localhost:7376", route[1]+"nope", headers...)
			require.NotEqual(t, http.StatusForbidden, status, "%v %v", route, headers)
		}
	}
	for _, headers := range foreign {
		status, _ := a.ask("GET", "localhost:7376", "/api/streams/s/messages", headers...)
		require.Equal(t, http.StatusOK, status, "a page may ask, and cannot read the answer")
	}
	require.Len(t, a.receive(`{"batch_size":10}`), 1, "the message is still available")
}
