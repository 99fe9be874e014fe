package main

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/cmd/sequin/internal/clitest"
)

func TestServeGivesEachTokenItsRights(t *testing.T) {
	p := start(t, clitest.Environment(), "--memory", "--token-file", clitest.File(t, "web send s3cret-1\nops admin,read s3cret-2\n"))
	require.Contains(t, p.usage, ": web (send), ops (read,admin)\n")
	require.NotContains(t, p.usage, "s3cret")
	as := func(token, method, path, body string) int {
		status, _ := p.do(method, path, body, "Authorization", "Bearer "+token)
		return status
	}
	require.Equal(t, http.StatusUnauthorized, as("s3cret-3", "GET", "/api/streams", ""))
	require.Equal(t, http.StatusForbidden, as("s3cret-1", "POST", "/api/streams", `{"name":"orders"}`))
	require.Equal(t, http.StatusOK, as("s3cret-2", "POST", "/api/streams", `{"name":"orders"}`))
	require.Equal(t, http.StatusOK, as("s3cret-1", "POST", "/api/streams/orders/messages", `{"messages":[{"key":"a","data":"1"}]}`))
	require.Equal(t, http.StatusForbidden, as("s3cret-1", "GET", "/api/streams/orders/messages", ""))
	require.Equal(t, http.StatusOK, as("s3cret-2", "GET", "/api/streams/orders/messages", ""))
}
