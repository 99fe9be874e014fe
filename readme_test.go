package sequin_test

import (
	"bufio"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// samples returns the Go code of the README, and what is behind each.
func samples(t *testing.T) (code, after []string) {
	t.Helper()
	parts := strings.Split(readText(t, "README.md"), "```go\n")[1:]
	for _, part := range parts {
		sample, rest, found := strings.Cut(part, "```")
		require.True(t, found)
		code, after = append(code, sample), append(after, rest)
	}
	require.NotEmpty(t, code)
	return code, after
}

// parsed parses a sample, with a package clause if it has none.
func parsed(t *testing.T, sample string) *ast.File {
	t.Helper()
	if !strings.HasPrefix(sample, "package ") {
		sample = "package p\n" + sample
	}
	file, err := parser.ParseFile(token.NewFileSet(), "README.md", sample, 0)
	require.NoErrorf(t, err, "%s", sample)
	return file
}

// A reader who copies a sample gets its imports, too.
func TestEverySampleOfTheREADMEImportsWhatItUses(t *testing.T) {
	all, _ := samples(t)
	for _, sample := range all {
		imported, used := map[string]bool{}, map[string]bool{}
		file := parsed(t, sample)
		for _, spec := range file.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			require.NoError(t, err)
			imported[path.Base(name)] = true
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if selector, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := selector.X.(*ast.Ident); ok && x.Obj == nil { // not a variable or a parameter
					used[x.Name] = true
				}
			}
			return true
		})
		require.Equal(t, used, imported, sample)
	}
}

// withoutImports returns the code of a sample behind its imports.
func withoutImports(sample string) string {
	return regexp.MustCompile(`(?s)^import \(.*?\n\)\n`).ReplaceAllString(sample, "")
}

// The first program is built as a reader would, in a package of its own, and interrupted when it has done its work.
func TestTheFirstProgramOfTheREADMEPrintsWhatItShows(t *testing.T) {
	code, after := samples(t)
	require.True(t, strings.HasPrefix(code[0], "package main\n"))
	dir := t.TempDir()
	program, binary, overlay := filepath.Join(dir, "main.go"), filepath.Join(dir, "program"), filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(program, []byte(code[0]), 0o600))
	here, err := filepath.Abs("readmeprogram") // is in the overlay only
	require.NoError(t, err)
	files, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(here, "main.go"): program}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(overlay, files, 0o600))
	built, err := exec.CommandContext(t.Context(), "go", "build", "-overlay", overlay, "-o", binary, "./readmeprogram").CombinedOutput()
	require.NoErrorf(t, err, "%s", built)

	_, shown, _ := strings.Cut(after[0], "$ go run .\n")
	shown, _, _ = strings.Cut(shown, "```")
	before, last, found := strings.Cut(shown, "^C\n")
	require.True(t, found)
	run := exec.CommandContext(t.Context(), binary)
	out, err := run.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, run.Start())
	lines := bufio.NewScanner(out)
	var got []string
	for range strings.Count(before, "\n") {
		require.True(t, lines.Scan())
		got = append(got, lines.Text())
	}
	require.ElementsMatch(t, strings.Split(strings.TrimSpace(before), "\n"), got)
	require.NoError(t, run.Process.Signal(os.Interrupt))
	require.True(t, lines.Scan())
	require.Equal(t, strings.TrimSpace(last), lines.Text())
	require.NoError(t, run.Wait())
}
