//go:build unix

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
)

// TestADirectoryOfAnotherUserIsReported runs the program as another user. One that is not the superuser cannot do that, and
// takes the directory from itself.
func TestADirectoryOfAnotherUserIsReported(t *testing.T) {
	path, err := binary()
	require.NoError(t, err)
	require.NoError(t, os.Chmod(filepath.Dir(path), 0o755))
	dir := stored(t)
	var other *syscall.SysProcAttr
	if os.Geteuid() == 0 {
		other = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}} // nobody
	} else {
		require.NoError(t, os.Chmod(dir, 0))
		defer os.Chmod(dir, 0o700)
	}
	outer := filepath.Dir(filepath.Dir(dir))           // the test's own
	for _, mode := range []os.FileMode{0o700, 0o755} { // with the first the other user does not even see the directory
		require.NoError(t, os.Chmod(outer, mode))
		for _, args := range [][]string{{"check", dir}, {"repair", dir, "--to", "new"}, {"serve", "--addr", "127.0.0.1:0", "--data", dir}} {
			cmd := exec.Command(path, args...)
			cmd.SysProcAttr = other
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit, "%s", out)
			require.Equal(t, cli.ExitFailed, exit.ExitCode())
			require.Regexp(t, `^sequin: cannot .*: (run it as the user to whom the directory belongs|give its files to the user that runs sequin, or use another --data)\n$`, string(out))
		}
	}
}
