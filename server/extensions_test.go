package server_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
	"github.com/sequin-go/sequin/server/internal/store"
)

const extensionsHeader = "Sequin-Extensions"

// apiRequests are requests with the status of their answer: successes, and refusals of every kind.
var apiRequests = []struct {
	method, path, body string
	status             int
}{
	{"GET", "/api/streams", "", 200},
	{"HEAD", "/api/streams", "", 200},
	{"GET", "//api//streams/", "", 200},
	{"GET", "/api/streams/s", "", 200},
	{"POST", messagesRoute, `{"messages":[{"key":"a","data":"x"}]}`, 200},
	{"POST", receiveRoute, `{}`, 200},
	{"POST", "/api/streams", `{`, 400},
	{"POST", messagesRoute, `{}`, 400},
	{"GET", "/api/streams/nope", "", 404},
	{"GET", "/api/streams/s/nope", "", 404},
	{"POST", messagesRoute, strings.Repeat(" ", 8_000_001), 413},
	{"POST", "/api/streams", `{"name":"s"}`, 422},
}

func TestEveryAnswerBelowStreamsNamesTheExtensions(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	for _, x := range apiRequests {
		got := a.call(x.method, x.path, x.body)
		require.Equal(t, x.status, got.status, "%s %s: %s", x.method, x.path, got.body)
		require.Equal(t, []string{"fenced-acks, parts, nack-delay, extend, attempts, paging, bare, purge, start, headers, end-receive"}, got.header[extensionsHeader], "%s %s", x.method, x.path)
	}
	for _, path := range []string{"/", "/nope", "/api", "/api/streamsx", "/apis/streams", "/api/sinks/streams"} {
		require.Empty(t, a.call("GET", path, "").header[extensionsHeader], path)
	}

	r := httptest.NewRequest("POST", "/api/streams", panicReader{"broken"})
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	require.Equal(t, http.StatusInternalServerError, w.Code)
	require.Equal(t, "fenced-acks, parts, nack-delay, extend, attempts, paging, bare, purge, start, headers, end-receive", w.Header().Get(extensionsHeader))

	a.Close()
	got := a.call("GET", "/api/streams/s", "")
	require.Equal(t, http.StatusServiceUnavailable, got.status)
	require.Equal(t, "fenced-acks, parts, nack-delay, extend, attempts, paging, bare, purge, start, headers, end-receive", got.header.Get(extensionsHeader))

	got = newAPI(t, server.Config{Token: "secret"}).call("GET", "/api/streams", "")
	require.Equal(t, http.StatusUnauthorized, got.status)
	require.Equal(t, "fenced-acks, parts, nack-delay, extend, attempts, paging, bare, purge, start, headers, end-receive", got.header.Get(extensionsHeader))
}

func TestIn2024NoExtensionsAreNamed(t *testing.T) {
	for _, off := range [][]string{nil, server.Extensions()} {
		a := newAPI(t, server.Config{Compat: server.Aug2024, WithoutExtensions: off}).withStream("", "")
		for _, x := range apiRequests {
			require.Empty(t, a.call(x.method, x.path, x.body).header[extensionsHeader], "%s %s", x.method, x.path)
		}
	}
}

func TestAnExtensionThatIsSwitchedOffIsNotNamed(t *testing.T) {
	for _, tt := range []struct {
		off  []string
		want []string
	}{
		{[]string{"fenced-acks"}, []string{"parts, nack-delay, extend, attempts, paging, bare, purge, start, headers, end-receive"}},
		{[]string{"parts", "parts"}, []string{"fenced-acks, nack-delay, extend, attempts, paging, bare, purge, start, headers, end-receive"}},
		{server.Extensions(), nil},
	} {
		a := newAPI(t, server.Config{WithoutExtensions: tt.off})
		require.Equal(t, tt.want, a.call("GET", "/api/streams", "").header[extensionsHeader])
	}
}

func TestWithoutPartsAPartIsStored(t *testing.T) {
	a := newAPI(t, server.Config{WithoutExtensions: []string{"parts"}}).withStream("", "")
	a.sendWithKey("whole", "a=1", "b=2")
	require.Equal(t, `{"data":{"published":1}}`, a.sendPart("part", "whole", "b=2").body)
	require.Equal(t, http.StatusOK, a.sendPart("", ",", "c=3").status, "the header is not read")
	require.Equal(t, []string{"a=1", "b=2", "b=2", "c=3"}, messages(t, a))
}

func TestAnUnknownExtensionCannotBeSwitchedOff(t *testing.T) {
	require.PanicsWithValue(t, `server: Config.WithoutExtensions has "part"; the extensions are fenced-acks, parts, nack-delay, extend, attempts, paging, bare, purge, start, headers, end-receive`, func() {
		server.New(server.Config{WithoutExtensions: []string{"parts", "part"}})
	})
}

// TestAStoreThatIsNotExtendedAnnouncesNoPurge has a store that is older than the server.
func TestAStoreThatIsNotExtendedAnnouncesNoPurge(t *testing.T) {
	older := struct{ store.Store }{store.NewMemory()}
	a := newAPI(t, server.Config{Store: older}).withStream("", "")
	require.Equal(t, "fenced-acks, parts, nack-delay, extend, attempts, paging, bare, end-receive", a.call("GET", "/api/streams", "").header.Get(extensionsHeader))
	require.Equal(t, http.StatusNotFound, a.call("POST", purgeRoute, `{"all":true}`).status)
	require.NotContains(t, a.ok("POST", consumersRoute, `{"name":"n","filter_key_pattern":">","start_from":"end"}`), "start_seq")
}
