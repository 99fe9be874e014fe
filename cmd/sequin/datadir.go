package main

import (
	"path/filepath"

	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
)

// defaultDir returns the directory for the messages when none is given, by the XDG Base Directory Specification.
func defaultDir(lookup func(string) (string, bool)) (string, error) {
	// The specification says that a path that is not absolute is to be ignored.
	if home, _ := lookup("XDG_DATA_HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, "sequin"), nil
	}
	for _, name := range []string{"HOME", "USERPROFILE"} { // the second is that of Windows
		if home, _ := lookup(name); home != "" {
			return filepath.Join(home, ".local", "share", "sequin"), nil
		}
	}
	return "", cli.Usage("there is no home directory for the messages: give a directory with --data, or --memory")
}
