//go:build !unix

package main

// ignoreClosedPipes does nothing: only Unix has a signal for a closed pipe.
func ignoreClosedPipes() {}
