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

func TestTrafficIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, server.Config{})
		do := func(method, path, body string) string {
			got := a.call(method, path, body)
			require.Equal(t, http.StatusOK, got.status, got.body)
			return got.body
		}
		do("POST", "/api/streams", `{"name":"s"}`)
		do("POST", "/api/streams/s/consumers", `{"name":"c","filter_key_pattern":">"}`)
		do("POST", "/api/streams/s/messages", `{"messages":[{"key":"a","data":"1"},{"key":"b","data":"2"}]}`)
		a.call("POST", "/api/streams/s/messages", `{"messages":[{"key":"a..","data":"1"}]}`)
		do("POST", "/api/streams/s/consumers/c/receive", `{"batch_size":9}`)
		time.Sleep(time.Minute)
		do("POST", "/api/streams/s/consumers/c/receive", `{}`)
		do("POST", "/api/streams/s/consumers/c/ack", `{"ack_ids":["00000000-0000-4000-8000-000000000000"]}`)

		size, ok := a.StreamSize(t.Context(), "s")
		require.True(t, ok)
		require.Equal(t, server.StreamTraffic{Sent: 2, SentBytes: 4, Delivered: 3, DeliveredBytes: 6}, size.Traffic)
		loads := a.ConsumerLoads(t.Context(), "s")
		require.Len(t, loads, 1)
		require.Equal(t, server.ConsumerTraffic{Deliveries: 3, Redeliveries: 1, Acks: 1}, loads[0].Traffic)
		require.Equal(t, []int{2, 1}, []int{loads[0].Backlog, loads[0].Outstanding})
		require.Equal(t, time.Minute, time.Since(loads[0].Oldest))

		do("DELETE", "/api/streams/s/consumers/c", "")
		do("POST", "/api/streams/s/consumers", `{"name":"c","filter_key_pattern":">"}`)
		require.Zero(t, a.ConsumerLoads(t.Context(), "s")[0].Traffic)
		require.Empty(t, a.ConsumerLoads(t.Context(), "none"))
	})
}

func TestAMeasureOfTheServerOf2024(t *testing.T) {
	a := newAPI(t, server.Config{Compat: server.Aug2024})
	a.call("POST", "/api/streams", `{"name":"s"}`)
	a.call("POST", "/api/streams/s/consumers", `{"name":"c","filter_key_pattern":"a.*"}`)
	a.call("POST", "/api/streams/s/messages", `{"messages":[{"key":"a.1","data":"1"},{"key":"b.1","data":"2"},{"key":"a.2","data":"3"}]}`)
	a.call("POST", "/api/streams/s/consumers/c/receive", `{}`)
	load := a.ConsumerLoads(t.Context(), "s")[0]
	require.Equal(t, []any{2, 1, false}, []any{load.Backlog, load.Outstanding, load.Estimated})
	require.False(t, load.Oldest.IsZero())
}
