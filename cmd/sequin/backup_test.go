package main

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/cmd/sequin/internal/clitest"
)

// TestARunningServerIsBackedUp copies the directory of a server that goes on, and starts another server with the copy.
func TestARunningServerIsBackedUp(t *testing.T) {
	dir, to := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "copy")
	p := start(t, clitest.Environment(), "--data", dir)
	p.ok("POST", "/api/streams", `{"name":"orders"}`)
	p.ok("POST", "/api/streams/orders/messages", `{"messages":[{"key":"a","data":"4 apples"}]}`)

	code, _, errors := runNow(clitest.Environment(), "check", dir)
	require.Equal(t, 1, code)
	require.Contains(t, errors, `"sequin backup `+dir+` --to NEW" makes and checks one while it runs`)
	code, out, errors := runNow(clitest.Environment(), "backup", dir, "--to", to)
	require.Equalf(t, 0, code, "%s", errors)
	require.Contains(t, out, "orders  1         0          none")
	require.Contains(t, out, "The copy is complete: to use it, start a server with --data "+to)
	p.ok("POST", "/api/streams/orders/messages", `{"messages":[{"key":"b","data":"2 pears"}]}`)

	code, _, errors = runNow(clitest.Environment(), "backup", dir, "--to", to)
	require.Equal(t, 1, code)
	require.Contains(t, errors, to+" is not empty")
	code, _, errors = runNow(clitest.Environment(), "backup", dir)
	require.Equal(t, 2, code)
	require.Contains(t, errors, "the new directory is missing")

	copied := start(t, clitest.Environment(), "--data", to)
	require.Contains(t, copied.ok("GET", "/api/streams/orders/messages/a", ""), "4 apples")
	status, _ := copied.do("GET", "/api/streams/orders/messages/b", "")
	require.Equal(t, 404, status)
	require.Contains(t, p.ok("GET", "/api/streams/orders/messages/b", ""), "2 pears")
}
