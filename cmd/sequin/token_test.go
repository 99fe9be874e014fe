package main

import (
	"os"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/cmd/sequin/internal/clitest"
)

// TestATokenFileThatOthersMayReadIsRefused is ssh's rule for keys: the files of other owners are not judged.
func TestATokenFileThatOthersMayReadIsRefused(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the mode of a file does not tell who may read it")
	}
	path := clitest.File(t, "0123456789abcdef\n")
	for _, mode := range []os.FileMode{0o604, 0o640, 0o620, 0o644} {
		require.NoError(t, os.Chmod(path, mode))
		code, _, errors := runNow(clitest.Environment(), "serve", "--memory", "--addr", "127.0.0.1:0", "--token-file", path)
		require.Equal(t, cli.ExitFailed, code)
		require.Contains(t, errors, `run "chmod 600 `+path+`"`)
		require.NotContains(t, errors, "0123456789abcdef")
	}
	if os.Geteuid() == 0 {
		require.NoError(t, os.Chown(path, 1, 1))
	} else {
		require.NoError(t, os.Chmod(path, 0o400))
	}
	p := start(t, clitest.Environment(), "--memory", "--token-file", path)
	status, _ := p.do("GET", "/api/streams", "", "Authorization", "Bearer 0123456789abcdef")
	require.Equal(t, 200, status)
}

func TestATokenFileThatNeverEndsIsRefused(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no such device")
	}
	code, _, errors := runNow(clitest.Environment(), "serve", "--memory", "--token-file", "/dev/zero")
	require.Equal(t, cli.ExitUsage, code)
	require.Contains(t, errors, "/dev/zero is too large for a token")
}
