package server_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

// console answers its path.
var console = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		w.WriteHeader(http.StatusTeapot)
	}
	_, _ = w.Write([]byte("page " + r.URL.Path))
})

func TestTheConsoleAnswersItsPathsWithoutTheToken(t *testing.T) {
	a := newAPI(t, server.Config{Token: "secret", Console: console})
	for _, path := range []string{"/console", "/console/", "/console/streams/a%2Fb"} {
		require.Equal(t, http.StatusOK, a.call("GET", path, "").status, path)
	}
	require.Equal(t, "page /console/x", a.call("GET", "/console/x", "").body)
	require.Equal(t, http.StatusTeapot, a.call("POST", "/console/x", "").status)
	for _, path := range []string{"/consoles", "/api/console", "/"} {
		require.Equal(t, http.StatusUnauthorized, a.call("GET", path, "").status, path)
	}
	require.Equal(t, http.StatusNotFound, newAPI(t, server.Config{}).call("GET", "/console/", "").status)
}

func TestTheConsoleIsRefusedToOtherSites(t *testing.T) {
	a := newAPI(t, server.Config{LoopbackOnly: true, Console: console})
	open := newAPI(t, server.Config{Console: console, CORS: server.CORS{Origins: []string{"https://app.example"}}})
	status, _ := a.ask("GET", "rebound.example", "/console/")
	require.Equal(t, http.StatusForbidden, status)
	status, _ = a.ask("GET", "localhost", "/console/", "Via", "1.1 proxy")
	require.Equal(t, http.StatusForbidden, status)
	status, _ = a.ask("GET", "localhost", "/console/", "Origin", "https://evil.example")
	require.Equal(t, http.StatusOK, status, "a link leads to it")
	for _, origin := range []string{"https://evil.example", "https://app.example"} {
		status, _ = open.ask("POST", "localhost", "/console/", "Origin", origin)
		require.Equal(t, http.StatusForbidden, status, "CORS is about the API")
		got := open.call("GET", "/console/", "", "Origin", origin)
		require.Empty(t, got.header.Get("Access-Control-Allow-Origin"))
	}
	status, _ = open.ask("POST", "localhost", "/console/", "Origin", "http://localhost")
	require.Equal(t, http.StatusTeapot, status)
}

func TestRequestsOfTheConsoleAreReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen server.RequestInfo
		slow := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Minute)
			console(w, r)
		})
		a := newAPI(t, server.Config{Console: slow, OnRequest: func(i server.RequestInfo) { seen = i }})
		a.call("GET", "/console/x", "")
		require.Equal(t, server.RequestInfo{Route: "GET console", Status: 200, Duration: time.Minute, BytesOut: 15}, seen)
		a.call("POST", "/console/x", "")
		require.Equal(t, server.RequestInfo{Route: "POST console", Status: 418, Duration: time.Minute, BytesOut: 15}, seen)
		a.call("HEAD", "/console/x", "", "Accept", "text/event-stream")
		require.Equal(t, "GET console", seen.Route)
		require.Equal(t, time.Minute, seen.Waited, "a browser waits for events")
		a.call("BREW", "/console/x", "")
		require.Equal(t, "other", seen.Route)
	})
}
