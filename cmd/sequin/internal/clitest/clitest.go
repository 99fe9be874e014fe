// Package clitest has what the tests of several packages of the program need.
package clitest

import (
	"os"
	"path/filepath"
	"testing"
)

// File writes a file that only the user may read, and returns its path.
func File(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Environment returns a lookup of variables, which are given with their values one after the other.
func Environment(variables ...string) func(string) (string, bool) {
	values := map[string]string{}
	for i := 0; i < len(variables); i += 2 {
		values[variables[i]] = variables[i+1]
	}
	return func(name string) (string, bool) {
		value, ok := values[name]
		return value, ok
	}
}
