package cli

import "path/filepath"

// UserDir returns the directory of this program below a directory of the XDG Base Directory Specification, such as that of
// XDG_CONFIG_HOME, which is .config in the home directory by default.
func UserDir(lookup func(string) (string, bool), variable string, below ...string) (string, error) {
	// The specification says that a path that is not absolute is to be ignored.
	if dir, _ := lookup(variable); filepath.IsAbs(dir) {
		return filepath.Join(dir, "sequin"), nil
	}
	for _, name := range []string{"HOME", "USERPROFILE"} { // the second is that of Windows
		if home, _ := lookup(name); home != "" {
			return filepath.Join(append(append([]string{home}, below...), "sequin")...), nil
		}
	}
	return "", Usage("there is no home directory: set $HOME or $%s", variable)
}
