package server_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

func TestAnEscapedSlashDoesNotSeparateElements(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	a.send("a/b=1")
	require.Equal(t, http.StatusOK, a.call("GET", "/api/streams/s/messages/a%2Fb", "").status)
	for _, path := range []string{
		"/api%2Fstreams", "/api/streams/s/consumers%2Fc", "/api/streams/s/consumers%2F%2A", "/api/streams/s/consumers/c/x%2Fmessages", "/api/streams/s/messages/a/b",
	} {
		require.Equal(t, http.StatusNotFound, a.call("GET", path, "").status, path)
	}
}
