//go:build !unix

package cli

import "io/fs"

// othersMayRead returns false: the mode of a file does not tell who may read it here.
func othersMayRead(fs.FileInfo) bool { return false }
