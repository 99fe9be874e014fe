package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/cmd/sequin/internal/clitest"
	"github.com/sequin-go/sequin/sequintest"
)

// readme is the README of the repository.
var readme = filepath.Join("..", "..", "README.md")

// shownIn returns the blocks of the README that are a session in a shell with this program.
func shownIn(text string) (blocks []string) {
	for block := range strings.SplitSeq(text, "```\n") {
		if strings.HasPrefix(block, "$ sequin ") {
			blocks = append(blocks, block)
		}
	}
	return blocks
}

// word is an argument in a shell: without quotes, or between single quotes.
var word = regexp.MustCompile(`'[^']*'|[^ ']+`)

// arguments of a line that begins with "$ sequin".
func shellWords(line string) (args []string) {
	for _, w := range word.FindAllString(strings.TrimPrefix(line, "$ sequin "), -1) {
		args = append(args, strings.Trim(w, "'"))
	}
	return args
}

// TestTheREADMEShowsWhatTheCommandsPrint runs the commands of the README. With -update it writes what they print into it.
func TestTheREADMEShowsWhatTheCommandsPrint(t *testing.T) {
	text, err := os.ReadFile(readme)
	require.NoError(t, err)
	blocks := shownIn(string(text))
	require.Len(t, blocks, 2, "a server, and what is done with it")
	now := strings.Replace(string(text), blocks[0], serverInREADME(t), 1)
	now = strings.Replace(now, blocks[1], replay(t, blocks[1]), 1)
	if *update {
		require.NoError(t, os.WriteFile(readme, []byte(now), 0o644))
		return
	}
	require.Equal(t, string(text), now, "go test -update writes it")
}

// serverInREADME is what a server prints when it begins, with the port and the directory of a user.
func serverInREADME(t *testing.T) string {
	home := t.TempDir()
	p := start(t, clitest.Environment("HOME", home))
	usage := strings.ReplaceAll(p.usage, strings.TrimPrefix(p.url, "http://"), "127.0.0.1:7376")
	return "$ sequin serve\n" + strings.TrimSuffix(strings.ReplaceAll(usage, home, "~"), "\n")
}

// replay runs the commands of a block in virtual time, and returns the block with what they print.
func replay(t *testing.T, block string) (now string) {
	inShell(t, sequintest.Config{}, func(t *testing.T, s *shell) {
		for line := range strings.Lines(block) {
			if strings.HasPrefix(line, "$ sequin ") {
				require.Zero(t, s.exec(shellWords(strings.TrimSpace(line))...), "%s%s", line, s.errors)
				now += line + s.out
			}
		}
	})
	n := 0
	return uuids.ReplaceAllStringFunc(now, func(string) string { // each id is another one
		n++
		return shownIDs[(n-1)%len(shownIDs)]
	})
}

// shownIDs are ids as a server makes them.
var shownIDs = []string{
	"5f0f2c1e-6a3b-4c59-8b0a-3f6c7d1e9a42", "b4c1d2a7-0e58-4f3d-9c66-1a7be2f08d35", "0d9e8f71-3c24-4b8a-a5f7-6e21c09b4d18", "c73a51e9-8d06-42bf-b1c4-90f5e3a7268d",
}
