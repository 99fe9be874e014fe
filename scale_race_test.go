//go:build race

package sequin_test

// These are lower with the race detector, which makes the tests about ten times as long.
const (
	changesOfARow = 10
	randomServers = 30
)
