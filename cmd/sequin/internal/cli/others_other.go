//go:build !unix

package cli

import "io/fs"

// OthersMayUse returns false: the mode of a file does not tell here who may use it.
func OthersMayUse(fs.FileInfo) bool { return false }
