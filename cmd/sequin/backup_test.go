package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
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
	require.Contains(t, errors, "--to is missing")

	copied := start(t, clitest.Environment(), "--data", to)
	require.Contains(t, copied.ok("GET", "/api/streams/orders/messages/a", ""), "4 apples")
	status, _ := copied.do("GET", "/api/streams/orders/messages/b", "")
	require.Equal(t, 404, status)
	require.Contains(t, p.ok("GET", "/api/streams/orders/messages/b", ""), "2 pears")
}

// TestABackupIsRestored as often as one wants to.
func TestABackupIsRestored(t *testing.T) {
	dir := stored(t)
	backup := filepath.Join(t.TempDir(), "backup")
	code, _, errors := runNow(clitest.Environment(), "backup", dir, "--to", backup)
	require.Equal(t, cli.ExitOK, code, errors)
	for range 2 {
		to := filepath.Join(t.TempDir(), "restored")
		code, out, errors := runNow(clitest.Environment(), "restore", backup, "--to", to)
		require.Equal(t, cli.ExitOK, code, errors)
		require.Contains(t, out, "The backup is restored: start the server with --data "+to)
		p := start(t, clitest.Environment(), "--data", to)
		require.Contains(t, p.ok("GET", "/api/streams/s/messages/k.4", ""), "data of 4")
	}
}

func TestBackupAndRestoreRefuseBadArguments(t *testing.T) {
	dir, full := stored(t), t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(full, "x"), nil, 0o600))
	for _, command := range []string{"backup", "restore"} {
		for _, c := range []struct {
			args []string
			code int
			says string
		}{
			{[]string{dir}, cli.ExitUsage, "--to is missing"},
			{[]string{filepath.Join(dir, "nope"), "--to", "new"}, cli.ExitNotFound, "there is no directory"},
			{[]string{full, "--to", "new"}, cli.ExitNotFound, "there is no store in"},
			{[]string{dir, "--to", full}, cli.ExitFailed, "is not empty"},
			{[]string{dir, "--to", filepath.Join(dir, "in")}, cli.ExitFailed, "is inside"},
		} {
			code, _, errors := runNow(clitest.Environment(), append([]string{command}, c.args...)...)
			require.Equal(t, c.code, code, errors)
			require.Contains(t, errors, c.says)
		}
	}
	damage(t, dir)
	code, _, errors := runNow(clitest.Environment(), "backup", dir, "--to", filepath.Join(t.TempDir(), "new"))
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, errors, `save what can be read with "sequin repair `)
}
