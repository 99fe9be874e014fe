//go:build !linux

package main

// inMemory reports whether a directory is on a file system in memory. Only Linux commonly has temporary files on one.
func inMemory(string) bool { return false }
