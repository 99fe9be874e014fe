package sequin_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// flush strips indentation, which a README does not share with the file that its code comes from.
func flush(code string) string {
	lines := strings.Split(strings.TrimSpace(code), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSpace(line)
	}
	return strings.Join(lines, "\n")
}

func TestTheREADMEsCodeStandsInAFileThatCompiles(t *testing.T) {
	var code strings.Builder
	require.NoError(t, filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" {
			return err
		}
		text, err := os.ReadFile(path)
		code.WriteString(flush(string(text)) + "\n")
		return err
	}))
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	require.NotEmpty(t, blocks)
	for _, block := range blocks {
		if !strings.Contains(code.String(), flush(block[1])) {
			t.Errorf("no Go file of the repository holds this code of the README:\n%s", block[1])
		}
	}
}

func TestTheREADMEsFilesExist(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	prose := regexp.MustCompile("(?s)```go\n.*?```").ReplaceAllString(string(readme), "") // f[T](d) is no link
	links := regexp.MustCompile(`\]\(([A-Za-z][^):#]*)\)|go run \./([a-z/]+)`).FindAllStringSubmatch(prose, -1)
	require.NotEmpty(t, links)
	for _, link := range links {
		path := link[1]
		if path == "" {
			path = filepath.Join(link[2], "main.go")
		}
		require.FileExistsf(t, path, "the README names %s", link[0])
	}
}
