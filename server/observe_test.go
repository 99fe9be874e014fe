package server_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

func TestEveryRequestIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []server.RequestInfo
		a := newAPI(t, server.Config{Token: "secret", OnRequest: func(i server.RequestInfo) { seen = append(seen, i) }})
		for _, call := range []struct {
			method, path, body string
			want               server.RequestInfo
		}{
			{"POST", "/api/streams", `{"name":"s"}`, server.RequestInfo{Route: "POST api/streams", Status: 200}},
			{"POST", "/api/streams/s/consumers", `{"name":"c","filter_key_pattern":">"}`, server.RequestInfo{Route: "POST api/streams/*/consumers", Status: 200}},
			{"HEAD", "/api/streams/s", "", server.RequestInfo{Route: "GET api/streams/*", Status: 200}},
			{"POST", "/api/streams/s/messages", `{`, server.RequestInfo{Route: "POST api/streams/*/messages", Status: 400}},
			{"POST", "/api/streams/s/consumers/c/receive", `{"wait_for":"1s"}`,
				server.RequestInfo{Route: "POST api/streams/*/consumers/*/receive", Status: 200, Duration: time.Second, Waited: time.Second}},
			{"GET", "/api/streams/s/anything", "", server.RequestInfo{Route: "other", Status: 404}},
			{"GET", "/healthz", "", server.RequestInfo{Route: "GET healthz", Status: 200}},
		} {
			seen = nil
			got := a.call(call.method, call.path, call.body, "Authorization", "Bearer secret")
			call.want.BytesIn, call.want.BytesOut = int64(len(call.body)), int64(len(got.body))
			require.Equal(t, []server.RequestInfo{call.want}, seen)
		}
		seen = nil
		a.call("GET", "/api/streams", "")
		require.Equal(t, http.StatusUnauthorized, seen[0].Status)
	})
}

func TestMetricsAnswersBehindTheToken(t *testing.T) {
	var seen server.RequestInfo
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("sequin_up 1\n")) })
	closed := newAPI(t, server.Config{Token: "secret", Metrics: metrics})
	require.Equal(t, http.StatusUnauthorized, closed.call("GET", "/metrics", "").status)
	require.Equal(t, "sequin_up 1\n", closed.call("GET", "/metrics", "", "Authorization", "Bearer secret").body)
	open := newAPI(t, server.Config{
		Token: "secret", Metrics: metrics, OpenMetrics: true, OnRequest: func(i server.RequestInfo) { seen = i },
	})
	require.Equal(t, "sequin_up 1\n", open.call("GET", "/metrics", "").body)
	require.Equal(t, "GET metrics", seen.Route)
	require.Equal(t, http.StatusUnauthorized, open.call("GET", "/metrics", "", "X-Forwarded-For", "10.0.0.1").status)
	require.Equal(t, http.StatusUnauthorized, open.call("GET", "/api/streams", "").status)
	local := newAPI(t, server.Config{Metrics: metrics, LoopbackOnly: true})
	status, _ := local.ask("GET", "example.com", "/metrics")
	require.Equal(t, http.StatusForbidden, status)
	require.Equal(t, http.StatusNotFound, newAPI(t, server.Config{}).call("GET", "/metrics", "").status)
}

// slowBody arrives a second after the request.
type slowBody struct{ io.Reader }

func (b slowBody) Read(p []byte) (int, error) {
	time.Sleep(time.Second)
	return b.Reader.Read(p)
}

// slowClient takes two seconds for a write of the body of an answer.
type slowClient struct{ *httptest.ResponseRecorder }

func (c slowClient) Write(p []byte) (int, error) {
	time.Sleep(2 * time.Second)
	return c.ResponseRecorder.Write(p)
}

// Flush takes three seconds.
func (c slowClient) Flush() { time.Sleep(3 * time.Second) }

func TestWaitingForASlowClientIsNotTheServersWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen server.RequestInfo
		srv := server.New(server.Config{OnRequest: func(i server.RequestInfo) { seen = i }})
		defer srv.Close()
		r := httptest.NewRequest("POST", "/api/streams", slowBody{iotest.DataErrReader(strings.NewReader(`{"name":"s"}`))})
		r.Header.Set("Content-Type", "application/json")
		srv.ServeHTTP(slowClient{httptest.NewRecorder()}, r)
		require.Equal(t, 200, seen.Status)
		require.Equal(t, 3*time.Second, seen.Duration)
		require.Equal(t, seen.Duration, seen.Waited)

		srv.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/api/streams/s/consumers?name=c&filter_key_pattern=>", nil))
		require.Equal(t, 200, seen.Status)
		srv.ServeHTTP(slowClient{httptest.NewRecorder()}, httptest.NewRequest("POST", "/api/streams/s/consumers/c/receive", nil))
		require.Equal(t, 200, seen.Status)
		require.Equal(t, 5*time.Second, seen.Duration) // the answer of a receive is flushed
		require.Equal(t, seen.Duration, seen.Waited)
	})
}
