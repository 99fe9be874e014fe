//go:build !unix

package feed

import "os"

// lock does nothing: there is no lock here that the standard library knows.
func lock(*os.File) error { return nil }
