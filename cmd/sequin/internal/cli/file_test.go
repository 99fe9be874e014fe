package cli

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAFileIsReplacedAsAWhole(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "dir")
	path := filepath.Join(dir, "file")
	for _, text := range []string{"a longer text", "text"} {
		require.NoError(t, ReplaceFile(path, []byte(text)))
		got, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, text, string(got))
	}
	if runtime.GOOS != "windows" { // it has no such modes
		for name, mode := range map[string]os.FileMode{path: 0o600, dir: 0o700} {
			info, err := os.Stat(name)
			require.NoError(t, err)
			require.Equal(t, mode, info.Mode().Perm())
		}
	}
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "taken", "x"), 0o700))
	require.Error(t, ReplaceFile(filepath.Join(dir, "taken"), nil), "it is a directory")
	require.Error(t, ReplaceFile(filepath.Join(path, "below"), nil), "its directory is a file")
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 2, "no other file is left")
}
